"""Print the tables of sillar/backends/numpy/special.py; needs mpmath.

R(t) = atanh(erf(x)) / x - 1 with t = x^2 is smooth and positive. It is matched by
P(t) / Q(t) at Chebyshev points in x on [0, end], thus beyond `end`, where tanh
flattens, with less relative accuracy: there it needs less.

atanh(2 P(N < x) - 1) / x of a normal N is matched by a polynomial in x^2 by least
squares, weighted by what an error of it does to P(N < x).
"""

from mpmath import cos, erf, erfc, linspace, log, lu_solve, matrix, mp, mpf, ncdf, pi

mp.dps = 60


def ratio(x):
    """Return atanh(erf(x)) / x - 1; erfc keeps 1 - erf exact for large x."""
    return (log(1 + erf(x)) - log(erfc(x))) / (2 * x) - 1


def table(end, p, q):
    """Return the coefficients of P (degree p) and Q (degree q), lowest power first."""
    angles = linspace(0, pi, 2 * (p + q) + 3)[1::2]
    points = [mpf(end) * (1 + cos(angle)) / 2 for angle in angles]
    rows = [
        [x ** (2 * j) for j in range(p + 1)]
        + [-ratio(x) * x ** (2 * j) for j in range(1, q + 1)]
        for x in points
    ]
    c = [float(v) for v in lu_solve(matrix(rows), matrix([ratio(x) for x in points]))]
    return tuple(c[: p + 1]), (1.0, *c[p + 1 :])


def normal(end, degree, count=200):
    """Return the coefficients of the polynomial, lowest power first."""
    angles = linspace(0, pi, 2 * count + 1)[1::2]
    points = [mpf(end) * (1 + cos(angle)) / 2 for angle in angles]
    weights = [x * ncdf(x) * ncdf(-x) for x in points]
    pairs = list(zip(points, weights, strict=True))
    rows = [[w * x ** (2 * j) for j in range(degree + 1)] for x, w in pairs]
    values = [w * log(ncdf(x) / ncdf(-x)) / (2 * x) for x, w in pairs]
    return tuple(float(v) for v in lu_solve(matrix(rows), matrix(values)))


if __name__ == "__main__":
    print("float32", *table(2.6, 3, 3), sep="\n")
    print("float64", *table(3.6, 10, 9), sep="\n")
    print("normal", normal(6, 6))
