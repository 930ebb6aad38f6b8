from __future__ import annotations

import os
from pathlib import Path

import pytest

from sen2chain import settings
from sen2chain.errors import LibraryError, RequestError
from sen2chain.files import absolute
from sen2chain.settings import cache_dir, home, ocm_models, paths


@pytest.fixture(autouse=True)
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the tests a user without an archive."""
    folder = tmp_path / "user"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("USERPROFILE", str(folder))
    return folder


def write_config(home_folder: Path, text: str) -> Path:
    file = home_folder / "config" / "config.cfg"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    return file


def test_home_is_read_when_asked(tmp_path: Path, user: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert home() == user / "sen2chain_data"
    monkeypatch.setenv("SEN2CHAIN_HOMEPATH", str(tmp_path / "disk"))
    assert home() == tmp_path / "disk" / "sen2chain_data"
    monkeypatch.setenv("SEN2CHAIN_HOMEPATH", "~/disk")
    assert home() == user / "disk" / "sen2chain_data"
    monkeypatch.setenv("SEN2CHAIN_HOMEPATH", "")
    assert home() == user / "sen2chain_data"


def test_a_relative_home_does_not_move_with_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SEN2CHAIN_HOMEPATH", "disk")
    assert home() == tmp_path / "disk" / "sen2chain_data"


def test_a_current_folder_that_is_gone_matters_only_to_relative_paths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert absolute(tmp_path) == tmp_path
    with pytest.raises(RequestError, match="current folder is gone, so 'x' cannot be found"):
        absolute("x")


def test_cache_follows_its_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEN2CHAIN_CACHE", str(tmp_path / "cache"))
    assert cache_dir() == tmp_path / "cache"
    monkeypatch.delenv("SEN2CHAIN_CACHE")
    assert "sen2chain" in cache_dir().parts


def test_defaults_without_anything_on_disk_create_nothing(user: Path) -> None:
    found = paths()
    root = user / "sen2chain_data"
    assert found.home == root
    assert found.l2a == root / "data" / "L2A"
    assert found.indices == root / "data" / "INDICES"
    assert found.cloudmasks == root / "data" / "CLOUDMASKS"
    assert found.extraction == root / "data" / "EXTRACTION"
    assert found.temp == root / "data" / "TEMP"
    assert found.logs == root / "logs"
    assert found.config == root / "config"
    assert list(user.iterdir()) == []


def test_config_is_honoured_and_empty_means_default(tmp_path: Path, user: Path) -> None:
    root = user / "sen2chain_data"
    write_config(
        root,
        "[DATA PATHS]\n"
        f"l2a_path = {tmp_path}/100%/L2A\n"
        "indices_path =\n"
        "cloudmasks_path = ~/masks\n"
        "extraction_path = out\n"
        "l1c_path = /somewhere\n"
        "[LOG PATH]\nlog_path = /var/log/sen2chain\n"
        "[PROXY SETTINGS]\nhttp = \n",
    )
    found = paths()
    assert found.l2a == tmp_path / "100%" / "L2A"
    assert found.indices == root / "data" / "INDICES"
    assert found.cloudmasks == user / "masks"
    assert found.extraction == root / "out"
    assert found.logs == Path("/var/log/sen2chain")


def test_config_with_byte_order_mark_and_missing_sections(user: Path) -> None:
    write_config(user / "sen2chain_data", "\ufeff[DATA PATHS]\nl2a_path=/x\n")
    assert paths().l2a == Path("/x")
    assert paths().logs == user / "sen2chain_data" / "logs"


@pytest.mark.parametrize("content", [b"l2a_path = x\n", b"[DATA PATHS\n", b"[A]\nb=\xff\xfe\n", b"[A]\nb=1\nb=2\n"])
def test_corrupt_config_is_named(user: Path, content: bytes) -> None:
    file = write_config(user / "sen2chain_data", "")
    file.write_bytes(content)
    with pytest.raises(LibraryError, match=r"config\.cfg cannot be read") as error:
        paths()
    assert "\n" not in str(error.value)


def test_unreadable_config_is_named(user: Path) -> None:
    (user / "sen2chain_data" / "config" / "config.cfg").mkdir(parents=True)
    with pytest.raises(LibraryError, match=r"config\.cfg cannot be read"):
        paths()


@pytest.mark.parametrize("sign", ["config", "data"])
def test_library_may_be_a_home(tmp_path: Path, sign: str) -> None:
    (tmp_path / "a" / sign).mkdir(parents=True)
    assert paths(tmp_path / "a").home == tmp_path / "a"
    assert paths(str(tmp_path / "a")).l2a == tmp_path / "a" / "data" / "L2A"


def test_library_may_be_the_parent_of_a_home(tmp_path: Path) -> None:
    (tmp_path / "disk" / "sen2chain_data").mkdir(parents=True)
    (tmp_path / "disk" / "data").mkdir()  # a project's own folder
    assert paths(tmp_path / "disk").l2a == tmp_path / "disk" / "sen2chain_data" / "data" / "L2A"


@pytest.mark.parametrize("name", ["L2A", "INDICES", "CLOUDMASKS"])
def test_library_may_hold_the_parts_itself(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "flat"
    (folder / name).mkdir(parents=True)
    found = paths(folder)
    assert found.home == folder
    assert (found.l2a, found.indices, found.cloudmasks) == (
        folder / "L2A",
        folder / "INDICES",
        folder / "CLOUDMASKS",
    )
    assert found.extraction == folder / "EXTRACTION"
    assert found.temp == folder / "TEMP"
    assert found.logs == folder / "logs"


def test_config_of_a_home_goes_before_folder_names(tmp_path: Path) -> None:
    (tmp_path / "L2A").mkdir()
    write_config(tmp_path, "[DATA PATHS]\nindices_path = elsewhere\n")
    found = paths(tmp_path)
    assert found.indices == tmp_path / "elsewhere"
    assert found.l2a == tmp_path / "data" / "L2A"


def test_no_library_is_an_error_of_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(LibraryError, match="empty is not a library"):
        paths(tmp_path / "empty")
    with pytest.raises(LibraryError, match="absent is not a folder"):
        paths(tmp_path / "absent")
    with pytest.raises(LibraryError, match="is not a folder"):
        paths("~nobody-has-this-name/archive")


def test_a_user_without_a_home_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.path.expanduser", lambda path: path)
    for name in ("HOME", "SEN2CHAIN_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert not settings.has_home()
    with pytest.raises(LibraryError, match="This user has no home folder; set HOME or SEN2CHAIN_HOMEPATH, or name"):
        settings.paths()
    assert settings.cache_dir().parent == Path(os.devnull), "nothing is kept, and no folder called ~ begun"
    monkeypatch.setenv("SEN2CHAIN_HOMEPATH", "somewhere")
    assert settings.home() == Path.cwd() / "somewhere" / "sen2chain_data"


def test_a_new_library_is_an_empty_folder_or_none(tmp_path: Path) -> None:
    (tmp_path / "empty" / "lost+found").mkdir(parents=True)
    (tmp_path / "empty" / ".hidden").touch()
    for name in ("empty", "absent", "absent/deeper"):
        found = settings.target_paths(tmp_path / name)
        assert found.home == tmp_path / name
        assert (found.indices, found.cloudmasks) == (found.home / "INDICES", found.home / "CLOUDMASKS")
        assert found.quicklooks == found.home / "QUICKLOOKS"
    assert not (tmp_path / "absent").exists(), "nothing is created"


def test_a_folder_of_something_else_is_no_new_library(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "one.jpg").touch()
    (tmp_path / "nowhere").symlink_to(tmp_path / "gone")
    for name in ("photos", "photos/one.jpg", "photos/one.jpg/deeper", "nowhere"):
        with pytest.raises(LibraryError, match="A new library needs a folder that is empty or does not exist"):
            settings.target_paths(tmp_path / name)
    with pytest.raises(RequestError, match="A library is a folder"):
        settings.target_paths("https://example.org/stac")


def test_a_library_that_is_there_is_itself_the_target(tmp_path: Path, user: Path) -> None:
    (tmp_path / "flat" / "L2A").mkdir(parents=True)
    assert settings.target_paths(tmp_path / "flat") == paths(tmp_path / "flat")
    assert settings.target_paths() == paths()
    write_config(user / "sen2chain_data", "[DATA PATHS\n")
    with pytest.raises(LibraryError, match=r"config\.cfg cannot be read") as error:
        settings.target_paths()
    assert "new library" not in str(error.value)


def test_weights_of_the_cloud_model_are_where_the_library_or_the_home_says(tmp_path: Path, user: Path) -> None:
    (tmp_path / "bare" / "L2A").mkdir(parents=True)
    bare = paths(tmp_path / "bare")
    assert ocm_models(bare) is None
    write_config(user / "sen2chain_data", "[DATA PATHS]\nocm_models = /srv/100%/weights\n")
    assert ocm_models(bare) == Path("/srv/100%/weights")
    own = tmp_path / "own" / "sen2chain_data"
    write_config(own, "[DATA PATHS]\nocm_models = weights\n")
    assert ocm_models(paths(own)) == own / "weights"


def test_a_user_without_a_home_has_no_weights_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bare" / "L2A").mkdir(parents=True)
    monkeypatch.setattr(settings, "has_home", lambda: False)
    assert ocm_models(paths(tmp_path / "bare")) is None
