"""What `doctor` says of the master key."""

from __future__ import annotations

from pathlib import Path

from botctl.cli.findings import Verdict
from botctl.cli.key_checks import master_key
from botctl.security.master_keys import create_file, new_keys, replace_file


def test_each_state_of_the_key_is_told_and_the_key_is_not(tmp_path: Path) -> None:
    (finding,) = master_key(tmp_path, {})
    assert (finding.verdict, "none yet" in finding.text) == (Verdict.OK, True)
    keys = create_file(tmp_path)
    (finding,) = master_key(tmp_path, {})
    assert (finding.verdict, finding.text) == (Verdict.OK, f"version 1 ({tmp_path}/master.key)")
    assert "copy" in str(finding.hint)
    replace_file(tmp_path, keys.renewed())
    (finding,) = master_key(tmp_path, {})
    assert (finding.verdict, "versions 2, 1" in finding.text) == (Verdict.WARN, True)
    (tmp_path / "master.key").chmod(0o644)
    (finding,) = master_key(tmp_path, {})
    assert (finding.verdict, "chmod 600" in str(finding.hint)) == (Verdict.FAIL, True)
    given = new_keys()
    (finding,) = master_key(tmp_path, {"BOTCTL_MASTER_KEY": given.text()})
    assert (finding.verdict, finding.text) == (Verdict.OK, "version 1 (BOTCTL_MASTER_KEY)")
    (finding,) = master_key(tmp_path, {"BOTCTL_MASTER_KEY": given.text()[:-4]})
    assert finding.verdict is Verdict.FAIL
    assert given.words()[0][:8] not in finding.text + str(finding.hint)
