"""Tables of cases: primitives, layers and losses with arguments to try them on."""
