"""Around every command: Hydra, answers to mistakes, exit codes, the summary line.

Standard output carries one JSON line, the summary; everything else goes to standard error.
"""

from __future__ import annotations

import contextlib
import difflib
import functools
import io
import json
import logging
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from core.errors import ConfigError, LockHeldError, LongstrandError, Preempted
from core.stops import stop_name, stops
from core.training import launch
from pipelines import prom
from pipelines.domains import domain_names
from pipelines.log import about, begin, configure, known
from pipelines.schema import register_schemas

CONF = Path(__file__).resolve().parent.parent / "conf"
_OPEN = ("config.", "note.", "backtest.trainer.")
_OF_A_DOMAIN = ("train", "simulate", "sweep", "retrain")
Command = Callable[[DictConfig], dict[str, Any]]

log = logging.getLogger("longstrand")


def run(command: Command, config_name: str) -> None:
    """Run `command` on the composed configuration and leave with its exit code."""
    start = time.perf_counter()
    arguments = sys.argv[1:]
    try:
        configure(config_name)
        register_schemas()
        _hydra(command, config_name, arguments)
    except (HydraException, OmegaConfBaseException, ConfigError) as error:
        said = str(error) if isinstance(error, ConfigError) else _one_sentence(error)
        log.error("%s", said)
        # Where not even the command's own defaults compose there is nothing to compare with.
        with contextlib.suppress(HydraException, OmegaConfBaseException):
            for line in suggestions(arguments, config_name):
                log.error("%s", line)
        given = dict(a.split("=", 1) for a in arguments if "=" in a)
        if given.get("domain") in domain_names():
            about(domain=given["domain"])
        _end({"error": said}, 2, start, given.get("prom", os.environ.get(prom.DIRECTORY)))


def _hydra(command: Command, config_name: str, arguments: list[str]) -> None:
    sys.argv[1:] = _hydra_arguments(_with_help_domain(arguments, config_name))
    # Hydra prints its own short error and exits 1; we want the exception, to answer with 2.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    main = hydra.main(version_base="1.3", config_path=str(CONF), config_name=config_name)
    with _without_schema_groups() if "--help" in arguments else contextlib.nullcontext():
        main(functools.wraps(command)(lambda config: _guarded(command, config, config_name)))()


def _guarded(command: Command, config: DictConfig, name: str) -> None:
    start = time.perf_counter()
    for stop in stops():
        signal.signal(stop, _stop)
    begin(name)
    directory: str | None = None
    if launch.rank() > 0:  # what it does the first process does too, and tells
        logging.getLogger().setLevel(logging.WARNING)
    try:
        _refuse_missing(config)
        _refuse_unknown(config)
        directory = OmegaConf.select(config, "prom")
        prom.check(directory)
        summary, code = command(config), 0
    except (LongstrandError, OmegaConfBaseException, OSError) as error:
        summary, code = {"error": str(error)}, exit_code(error)
        # Nobody is to be woken for a lock that is held, or for a stop that was asked for.
        expected = isinstance(error, LockHeldError | Preempted)
        log.log(logging.WARNING if expected else logging.ERROR, "%s", error)
    except Exception as error:
        summary, code = {"error": type(error).__name__}, 1
        log.exception("this is a fault of longstrand, not of your input; please report it")
    _end(summary, code, start, directory)


def _end(summary: dict[str, Any], code: int, start: float, directory: str | None) -> None:
    """Metrics of the run, its summary line, and out where it failed. Of several processes the
    first one alone speaks."""
    if launch.rank() > 0:
        sys.exit(code)
    seconds = time.perf_counter() - start
    facts = known()
    command, domain = str(facts["command"]), str(facts.get("domain", "unknown"))
    ended = prom.Finished(command, domain, time.time(), seconds, code, summary)
    folder = Path(str(facts["run"])) if "run" in facts else None
    try:
        prom.write(ended, folder, Path(directory) if directory else None)
    except OSError as error:
        # The work is done, or has failed for a reason of its own: that decides the exit code.
        log.error("the metrics of this run could not be written: %s", error)
    state = {"status": "failed", "exit_code": code} if code else {"status": "done"}
    sys.stderr.flush()
    print(json.dumps({**state, **summary, "seconds": round(seconds, 1)}, allow_nan=False))
    sys.stdout.flush()
    if code:
        sys.exit(code)


def exit_code(error: Exception) -> int:
    """Of an error that a sentence answers; a path that cannot be used is an unusable argument."""
    if isinstance(error, LongstrandError):
        return error.exit_code
    unusable = (FileNotFoundError, FileExistsError, NotADirectoryError, IsADirectoryError)
    wrong = isinstance(error, (OmegaConfBaseException, PermissionError, *unusable))
    return 2 if wrong else 1


def _stop(signum: int, frame: FrameType | None) -> None:
    # A second one, while the first is being answered, would only spoil the answer; who presses
    # Ctrl-C twice does not want to wait for it.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if signal.SIGINT in stops():
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    by = stop_name(signum)
    raise Preempted(f"stopped by {by}; the same command goes on (a training with resume=auto)")


def _refuse_missing(config: DictConfig) -> None:
    missing = sorted(OmegaConf.missing_keys(config))
    if missing:
        raise ConfigError(
            f"missing: {', '.join(f'{key}=...' for key in missing)}; --help says more"
        )


def _refuse_unknown(config: DictConfig, where: str = "") -> None:
    """Settings that nothing reads: Hydra takes any that begins with a plus."""
    kind = OmegaConf.get_type(config)
    if is_dataclass(kind):
        read = {field.name for field in fields(kind)}
        for name in sorted(str(key) for key in set(config) - read):
            raise ConfigError(
                f"{where}{name}: found a setting that nothing reads, expected one of "
                f"{', '.join(sorted(read))}"
            )
    for name in config:
        if OmegaConf.is_missing(config, name) or OmegaConf.is_interpolation(config, str(name)):
            continue
        child = config[name]
        if isinstance(child, DictConfig):
            _refuse_unknown(child, f"{where}{name}.")


def job_suffix() -> str:
    """`-<n>` in job n of a --multirun, else nothing: each job has its own run folder."""
    if not HydraConfig.initialized():  # a command called from Python, not from a shell
        return ""
    config = HydraConfig.get()
    return (
        f"-{config.job.num}" if config.mode is not None and config.mode.name == "MULTIRUN" else ""
    )


@contextlib.contextmanager
def _without_schema_groups() -> Iterator[None]:
    """Help without the lines of `schema/...`, which nobody chooses from."""
    text = io.StringIO()
    try:
        with contextlib.redirect_stdout(text):
            yield
    finally:
        kept = [line for line in text.getvalue().splitlines() if not line.startswith("schema")]
        print("\n".join(kept))


def _with_help_domain(arguments: list[str], config_name: str) -> list[str]:
    # Help composes the configuration, which needs some domain to be composed at all.
    needs_domain = config_name in _OF_A_DOMAIN
    asks = {"--help", "-h", "--info", "--hydra-help"} & set(arguments)
    if needs_domain and asks and not any(a.startswith("domain=") for a in arguments):
        return [*arguments, f"domain={domain_names()[0]}"]
    return arguments


def _hydra_arguments(arguments: list[str]) -> list[str]:
    """Flags first, because Hydra's parser takes no flag between two overrides. `config.` and
    `note.` are open mappings; the first is checked against the domain's schema once the bundle is
    read."""
    overrides = [a for a in arguments if "=" in a and not a.startswith("-")]
    flags = [a for a in arguments if a not in overrides]
    return flags + [f"++{o}" if o.startswith(_OPEN) else o for o in map(as_text, overrides)]


def as_text(override: str) -> str:
    """A value that Hydra's grammar cannot read, as `day=1/[a].csv`, in quotes: it is text, and its
    setting says whether it takes text. Begun lists, mappings and quotes are left to Hydra's word.

    Source: hydra.cc/docs/1.3/advanced/override_grammar/basic, "Quoted values".
    """
    key, value = override.split("=", 1)
    if value.startswith(("[", "{", "'", '"')) or _readable(override):
        return override
    # Backslashes count as themselves but before a quote.
    escaped = re.sub(
        r"(\\*)('|$)", lambda found: found[1] * 2 + found[2].replace("'", "\\'"), value
    )
    return f"{key}='{escaped}'"


def _readable(override: str) -> bool:
    try:
        OverridesParser.create().parse_override(override)
    except HydraException:
        return False
    return True


def _one_sentence(error: Exception) -> str:
    parts = [str(error).strip()]
    if error.__cause__ is not None and str(error.__cause__).strip() not in parts[0]:
        parts.append(str(error.__cause__).strip())
    text = " ".join(" ".join(parts).split())
    # With typed configurations appending is never the answer that Hydra thinks it is.
    text = re.sub(r"\s*To append to your config use \+\S+", "", text)
    return re.sub(r"\s*(Config search path:|full_key:|object_type=).*", "", text)


def suggestions(arguments: list[str], config_name: str) -> list[str]:
    """A near name for each mistyped key or choice on the command line."""
    overrides = [a.lstrip("+~") for a in arguments if "=" in a and not a.startswith("-")]
    groups = {
        p.name: sorted(f.stem for f in p.glob("*.yaml")) for p in CONF.iterdir() if p.is_dir()
    }
    good = [o for o in overrides if o.split("=", 1)[1] in groups.get(o.split("=", 1)[0], ())]
    known = _known_keys(config_name, good) | set(groups)
    lines = []
    for override in overrides:
        key, value = override.split("=", 1)
        if key in groups and value not in groups[key]:
            near = difflib.get_close_matches(value, groups[key], n=1)
            lines += [f"did you mean {key}={near[0]}?"] if near else []
        elif key not in known and not key.startswith(("hydra.", *_OPEN)):
            near = difflib.get_close_matches(key, sorted(known), n=1, cutoff=0.6)
            lines += [f"did you mean {near[0]}= instead of {key}=?"] if near else []
    return lines


def _known_keys(config_name: str, overrides: list[str]) -> set[str]:
    if config_name in _OF_A_DOMAIN and not any(o.startswith("domain=") for o in overrides):
        overrides = [*overrides, f"domain={domain_names()[0]}"]
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        config = hydra.compose(config_name, overrides)
    return set(_flat_keys(OmegaConf.to_container(config, resolve=False)))


def _flat_keys(node: Any, prefix: str = "") -> list[str]:
    if not isinstance(node, dict):
        return []
    keys = []
    for name, child in node.items():
        keys += [f"{prefix}{name}", *_flat_keys(child, f"{prefix}{name}.")]
    return keys
