"""`sillar data`: the list, a copy from a folder, and what is damaged."""

from command_line import as_json, sillar

from sillar.data.sets import named_sets


def test_the_list_has_every_set(tmp_path):
    found = as_json("data", "list", env={"SILLAR_CACHE": str(tmp_path)})
    assert found["cache"] == str(tmp_path)
    assert set(found["sets"]) == set(named_sets())
    text = sillar("data", "list").stdout
    assert all(name in text for name in found["sets"])
    words = "".join(text.split())  # lines are folded
    for one in found["sets"].values():
        for key in ("home", "licence", "citation"):
            assert "".join(one[key].split()) in words
    assert all(f["sha256"] for s in found["sets"].values() for f in s["files"].values())


def test_fetch_and_verify(tmp_path, shared_data):
    place = {"SILLAR_CACHE": str(tmp_path)}
    got = as_json("data", "fetch", "adult", "--from", shared_data, env=place)
    assert got["folder"] == str(tmp_path / "adult")
    verified = as_json("data", "verify", "adult", env=place)
    assert len(verified["files"]) == 3
    (tmp_path / "adult" / "adult.names").write_bytes(b"x")
    done = sillar("data", "verify", "adult", env=place, code=2)
    assert "adult.names: expected 5,229 bytes, got 1" in done.stderr
    assert "sillar data fetch adult" in done.stderr


def test_without_network_or_address_one_sentence(tmp_path):
    place = {"SILLAR_CACHE": str(tmp_path), "SILLAR_MIRROR": "http://127.0.0.1:9"}
    done = sillar("data", "fetch", "adult", env=place, code=2)
    assert "no way to 127.0.0.1:9" in done.stderr
    done = sillar("data", "fetch", "adult", env={"SILLAR_CACHE": str(tmp_path)}, code=2)
    assert "pass --from DIR" in done.stderr
    assert "unknown data set" in sillar("data", "fetch", "no", code=2).stderr
