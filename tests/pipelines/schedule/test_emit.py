"""The files that are printed: each is parsed, and what it starts is started."""

from __future__ import annotations

import ast
import configparser
import fcntl
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from jinja2 import Environment, StrictUndefined

from core.errors import ConfigError
from pipelines.schedule import emit
from pipelines.schedule.cron import Cron
from pipelines.schedule.job import Job
from pipelines.schema import ClusterSchema
from tests.pipelines.schedule.conftest import FIRE, STARTED, started

Make = Callable[..., Job]
CLUSTER = ClusterSchema(image="registry/longstrand:1", claim="longstrand")


def crontab_command(text: str) -> str:
    """What cron gives to the shell: the sixth field, with \\% for %."""
    line = text.splitlines()[-1]
    assert not re.search(r"(?<!\\)%", line), "cron ends a command at a bare %"
    return line.split(maxsplit=5)[5].replace(r"\%", "%")


def service_command(text: str) -> list[str]:
    """What systemd starts: quotes, escapes, specifiers and variables undone as it does."""
    match = re.fullmatch(r'/bin/sh -c "((?:[^"\\]|\\.)*)"', text)
    assert match
    inside = re.sub(r"\\(.)", r"\1", match.group(1))
    assert not re.search(r"(?<!%)%(?:%%)*(?!%)", inside.replace("%%", ""))
    assert "$" not in inside.replace("$$", "")
    return ["/bin/sh", "-c", inside.replace("%%", "%").replace("$$", "$")]


def pod_command(container: dict[str, Any]) -> list[str]:
    """What Kubernetes starts: $(NAME) is a variable, $$ a dollar."""
    assert not re.search(r"(?<!\$)\$\(", container["command"][-1])
    return [part.replace("$$", "$") for part in container["command"]]


def operator(text: str, name: str) -> dict[str, Any]:
    """Keywords of the one call to `name`, those that are plain values."""
    calls = [n for n in ast.walk(ast.parse(text)) if isinstance(n, ast.Call)]
    (call,) = [c for c in calls if isinstance(c.func, ast.Name) and c.func.id == name]
    plain = [k for k in call.keywords if k.arg and isinstance(k.value, ast.Constant)]
    return {str(k.arg): k.value.value for k in plain if isinstance(k.value, ast.Constant)}


def shell(command: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def test_cron_starts_the_job_with_the_date_of_its_time_zone(
    job: Make, environment: dict[str, str], tmp_path: Path
) -> None:
    (text,) = emit.crontab(job()).values()
    assert "CRON_TZ=Europe/Berlin" in text.splitlines()
    assert text.splitlines()[-1].split()[:5] == ["30", "0", "*", "*", "1,4"]
    done = shell(["/bin/sh", "-c", crontab_command(text)], environment)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert started(tmp_path) == STARTED


@pytest.mark.parametrize(("code", "mail"), [(75, False), (143, False), (3, True), (1, True)])
def test_cron_sends_mail_of_failures_only(
    job: Make, environment: dict[str, str], tmp_path: Path, code: int, mail: bool
) -> None:
    (text,) = emit.crontab(job()).values()
    done = shell(["/bin/sh", "-c", crontab_command(text)], {**environment, "EXIT": str(code)})
    log = tmp_path / "longstrand-score.log"
    assert done.stdout == (f"longstrand-score: see {log}, exit code {code}\n" if mail else "")
    assert done.stderr == ""


def test_cron_starts_nothing_while_the_last_start_runs(
    job: Make, environment: dict[str, str], tmp_path: Path
) -> None:
    (text,) = emit.crontab(job()).values()
    with (tmp_path / ".longstrand-score.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = shell(["/bin/sh", "-c", crontab_command(text)], environment)
    assert done.stdout == ""
    assert not (tmp_path / "started").exists()


def test_a_line_longer_than_cron_reads_is_refused(job: Make) -> None:
    with pytest.raises(ConfigError, match="cron reads 990"):
        emit.crontab(job(arguments=("config.data.path=" + "x" * 900,)))


def test_systemd_starts_the_job_with_the_date_of_its_time_zone(
    job: Make, environment: dict[str, str], tmp_path: Path
) -> None:
    files = emit.systemd(job(), "fraud")
    units = {}
    for name, text in files.items():
        units[name] = configparser.RawConfigParser(strict=True)
        units[name].optionxform = str  # type: ignore[assignment, method-assign]
        units[name].read_string(text)
    service = units["longstrand-score.service"]["Service"]
    assert (service["Type"], service["SuccessExitStatus"]) == ("oneshot", "75 143")
    timer = units["longstrand-score.timer"]["Timer"]
    assert timer["OnCalendar"] == "Mon,Thu *-*-* 00:30:00 Europe/Berlin"
    done = shell(service_command(service["ExecStart"]), environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert started(tmp_path) == STARTED


def test_systemd_knows_every_key_of_the_units(job: Make, tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd-analyze here to verify units")
    files = emit.systemd(job(), "root")
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    done = shell(
        ["systemd-analyze", "verify", *(str(tmp_path / name) for name in files)], {"LC_ALL": "C"}
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_kubernetes_starts_the_job_with_the_date_it_was_scheduled_for(
    job: Make, environment: dict[str, str], tmp_path: Path
) -> None:
    (text,) = emit.kubernetes(job(), CLUSTER).values()
    pod = yaml.safe_load(text)["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    name = f"longstrand-score-{int(FIRE.timestamp()) // 60}"
    done = shell(pod_command(container), {**environment, "JOB_NAME": name})
    assert (done.returncode, done.stderr) == (0, "")
    assert started(tmp_path) == STARTED
    (tmp_path / "started").unlink()
    by_hand = shell(pod_command(container), {**environment, "JOB_NAME": "by-hand"})
    assert by_hand.returncode != 0
    assert not (tmp_path / "started").exists()


def test_kubernetes_retries_what_may_pass_and_gives_up_on_what_will_not(job: Make) -> None:
    (text,) = emit.kubernetes(job(), CLUSTER).values()
    spec = yaml.safe_load(text)["spec"]
    assert (spec["concurrencyPolicy"], spec["timeZone"]) == ("Forbid", "Europe/Berlin")
    assert Cron.parse(spec["schedule"]) == Cron.parse("30 0 * * mon,thu")
    assert spec["startingDeadlineSeconds"] == 3600
    rules = spec["jobTemplate"]["spec"]["podFailurePolicy"]["rules"]
    codes = {c: r["action"] for r in rules for c in r.get("onExitCodes", {}).get("values", [])}
    assert codes == {75: "Ignore", 143: "Ignore", 2: "FailJob", 3: "FailJob", 4: "FailJob"}
    # Kubernetes takes a failure policy with no other restart policy.
    assert spec["jobTemplate"]["spec"]["template"]["spec"]["restartPolicy"] == "Never"


def test_kubernetes_knows_every_field_of_the_cronjob(job: Make, tmp_path: Path) -> None:
    if shutil.which("kubectl") is None:
        pytest.skip("no kubectl here to read the CronJob")
    (text,) = emit.kubernetes(job(), CLUSTER).values()
    (tmp_path / "job.yaml").write_text(text)
    # Without a server: kubectl reads into its own types and drops what they do not have.
    command = "kubectl set image --local -o json -f job.yaml job=another"
    done = subprocess.run(command.split(), cwd=tmp_path, capture_output=True, text=True, check=True)
    ours = yaml.safe_load(text.replace(str(CLUSTER.image), "another"))
    assert _contained(ours, json.loads(done.stdout))


def _contained(ours: Any, theirs: Any) -> bool:
    if isinstance(ours, dict):
        return all(key in theirs and _contained(ours[key], theirs[key]) for key in ours)
    if isinstance(ours, list):
        return len(ours) == len(theirs) and all(map(_contained, ours, theirs))
    return ours == theirs


@pytest.mark.parametrize("missing", ["image", "claim"])
def test_kubernetes_needs_an_image_and_a_volume(job: Make, missing: str) -> None:
    given = {"image": "i", "claim": "c", missing: None}
    with pytest.raises(ConfigError, match=rf"missing cluster.{missing}="):
        emit.kubernetes(job(), ClusterSchema(**given))


def test_airflow_starts_the_job_with_the_date_of_its_run(
    job: Make, environment: dict[str, str], tmp_path: Path
) -> None:
    (text,) = emit.airflow(job()).values()
    task = operator(text, "BashOperator")
    assert (task["skip_on_exit_code"], task["cwd"]) == (75, str(tmp_path))
    template = Environment(undefined=StrictUndefined).from_string(task["bash_command"])
    command = template.render(dag_run=SimpleNamespace(run_after=FIRE))
    done = shell(["bash", "-c", command], {**environment, "LONGSTRAND_RUN_ID": "another"})
    assert (done.returncode, done.stderr) == (0, "")
    assert started(tmp_path) == STARTED


def test_airflow_runs_one_at_a_time_and_makes_up_for_none(job: Make) -> None:
    (text,) = emit.airflow(job()).values()
    dag = operator(text, "DAG")
    assert dag == {"dag_id": "longstrand-score", "catchup": False, "max_active_runs": 1}
    assert operator(text, "CronTriggerTimetable") == {"timezone": "Europe/Berlin"}
    modules = [n.module for n in ast.walk(ast.parse(text)) if isinstance(n, ast.ImportFrom)]
    assert modules == [
        "datetime",
        "airflow.providers.standard.operators.bash",
        "airflow.sdk",
        "airflow.timetables.trigger",
    ]


def test_airflow_is_given_no_argument_that_its_templates_would_read(job: Make) -> None:
    with pytest.raises(ConfigError, match="templates"):
        emit.airflow(job(arguments=("bundle={{ x }}",)))
