import datetime as dt
import ssl
import stat
from pathlib import Path

import pytest

from genqueue_lab import certificates
from genqueue_lab.certificates import ensure_certificates


def contents(directory):
    """Return the directory's PEM files and their bytes."""
    return {path.name: path.read_bytes() for path in Path(directory).iterdir() if path.name != "lock"}


def test_certificates_are_made_once(tmp_path):
    """The second call finds the files of the first and leaves them alone."""
    first = ensure_certificates(tmp_path / "new")
    before = contents(tmp_path / "new")
    assert ensure_certificates(tmp_path / "new") == first
    assert contents(tmp_path / "new") == before


def test_the_private_key_is_the_owners_alone(tmp_path):
    """Nobody else can read the key, and the authority's key is nowhere."""
    made = ensure_certificates(tmp_path)
    assert stat.S_IMODE(made.key_file.stat().st_mode) == 0o600
    assert sum(b"PRIVATE KEY" in data for data in contents(tmp_path).values()) == 1


@pytest.mark.parametrize("name", ["ca.pem", "server.pem", "server.key"])
@pytest.mark.parametrize("damage", ["missing", "broken", "foreign"])
def test_damaged_files_are_replaced(tmp_path, name, damage):
    """A file that is missing, broken or of another set makes a new set that works."""
    ensure_certificates(tmp_path)
    match damage:
        case "missing":
            (tmp_path / name).unlink()
        case "broken":
            (tmp_path / name).write_bytes(b"-----BEGIN nothing")
        case "foreign":
            ensure_certificates(tmp_path / "other")
            (tmp_path / name).write_bytes((tmp_path / "other" / name).read_bytes())
    again = ensure_certificates(tmp_path)
    assert again.server_context().cert_store_stats()["x509"] == 0
    assert ssl.create_default_context(cafile=again.ca_file).get_ca_certs()
    after = contents(tmp_path) if damage != "foreign" else {}
    assert ensure_certificates(tmp_path) == again
    assert not after or contents(tmp_path) == after


def test_certificates_about_to_end_are_replaced(tmp_path, monkeypatch):
    """A certificate that ends within the margin is made anew."""
    before = ensure_certificates(tmp_path).chain_file.read_bytes()
    monkeypatch.setattr(certificates, "MARGIN", dt.timedelta(days=365 * 1500))
    assert ensure_certificates(tmp_path).chain_file.read_bytes() != before
