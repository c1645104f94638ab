"""``trajsvc serve`` and the processes that it starts, each of which can also be started by itself: ``api``, ``runner``, ``worker``."""

from __future__ import annotations

import json
import os
import runpy
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from trajsvc.cli.interrupts import asked
from trajsvc.cli.options import StoreOption
from trajsvc.cli.output import errors_console, results_console, safe
from trajsvc.errors import UsageError

if TYPE_CHECKING:
    from trajsvc.settings import ServiceSettings

SERVICE = "Service"
LOOPBACK = ("127.0.0.1", "::1", "localhost")
DRAIN = 20.0
"""Seconds that the runner has from when the server begins to end; then it and its workers are killed."""
NICE = 10
SWITCH = 0.001
"""Seconds that a computing thread of the API runs while the one that answers waits for it."""

HostOption = Annotated[
    str, typer.Option("--host", help="Address to listen on. Tokens are required on any but the loopback address.")
]
PortOption = Annotated[int, typer.Option("--port", min=0, max=65535, help="Port to listen on.")]
RootOption = Annotated[
    list[str] | None,
    typer.Option(
        "--root",
        metavar="NAME=DIR",
        help="A folder whose checkpoints may be submitted as NAME:path. May be given again.",
    ),
]
RulesOption = Annotated[
    list[str] | None,
    typer.Option("--rules-file", metavar="NAME=FILE", help="Rules that submissions may name. May be given again."),
]
ProbeOption = Annotated[
    list[str] | None,
    typer.Option(
        "--probe",
        metavar="NAME=PROBE",
        help="A probe that gradients may be submitted with: causal-lm, module:object. May be given again.",
    ),
]
DataOption = Annotated[
    list[str] | None,
    typer.Option(
        "--data",
        metavar="NAME=FILE",
        help="A file of examples that gradients may be submitted with. May be given again.",
    ),
]
DatabaseOption = Annotated[
    str | None,
    typer.Option("--database", metavar="URL", help="postgresql://… or sqlite:///FILE. \\[jobs.db in the store]"),
]
SchedulerOption = Annotated[
    str | None,
    typer.Option("--scheduler", metavar="ADDRESS", help="A dask scheduler, tcp://… or tls://…; else one is started."),
]
WorkersOption = Annotated[
    int | None,
    typer.Option("--workers", min=1, help="dask workers to start if no scheduler is named. \\[one a core]"),
]
JobsOption = Annotated[int, typer.Option("--jobs", min=1, max=16, help="Simultaneous jobs.")]
HostNameOption = Annotated[
    list[str] | None,
    typer.Option(
        "--host-name", metavar="NAME", help="Host name by which clients reach the server. May be given again."
    ),
]
AuthOption = Annotated[
    bool | None, typer.Option("--auth/--no-auth", help="Require tokens. \\[on any but the loopback address]")
]

SERVE_EPILOG = """Examples:

  trajsvc serve --root runs=/data/checkpoints

  trajsvc submit runs:my-run --server http://127.0.0.1:8000 --wait

  trajsvc tokens create me && trajsvc serve --host 0.0.0.0 --host-name gpu7.lab

Everything runs on this machine: SQLite, a dask cluster, the runner, the API. Restarted, it continues where it stopped.
"""


def register(app: typer.Typer) -> None:
    """Add this module's commands to ``app``."""
    app.command("serve", epilog=SERVE_EPILOG, rich_help_panel=SERVICE)(serve)
    app.command("api", rich_help_panel=SERVICE)(api)
    app.command("runner", rich_help_panel=SERVICE)(runner)
    app.command("worker", rich_help_panel=SERVICE)(worker)
    tokens = typer.Typer(help="Access tokens of a server.", no_args_is_help=True)
    tokens.command("create", epilog="Example:  trajsvc tokens create laptop --scope submit")(create_token)
    tokens.command("ls")(list_tokens)
    tokens.command("revoke")(revoke_token)
    app.add_typer(tokens, name="tokens", rich_help_panel=SERVICE)


def serve(
    host: HostOption = "127.0.0.1",
    port: PortOption = 8000,
    store: StoreOption = None,
    root: RootOption = None,
    rules_file: RulesOption = None,
    probe: ProbeOption = None,
    data: DataOption = None,
    database: DatabaseOption = None,
    scheduler: SchedulerOption = None,
    workers: WorkersOption = None,
    jobs: JobsOption = 1,
    host_name: HostNameOption = None,
    auth: AuthOption = None,
) -> None:
    """Serve runs over HTTP, and analyse what is submitted."""
    settings = make_settings(
        store=store, roots=_pairs(root), rules_files=_pairs(rules_file), probes=_words(probe), gradient_data=_pairs(data),
        database=database, scheduler=scheduler, workers=workers, hosts=host_name, auth=auth,
    )  # fmt: skip
    environment = {**os.environ, **exported(settings)}  # of a runner, which may have threads
    app, asks = make_api(settings, host)
    command = [sys.executable, "-m", "trajsvc", "runner", "--jobs", str(jobs)]
    with Supervised(command, environment) as supervised:
        listen(app, host, port, settings, asks, supervised.stop)


def api(
    host: HostOption = "127.0.0.1",
    port: PortOption = 8000,
    store: StoreOption = None,
    root: RootOption = None,
    rules_file: RulesOption = None,
    probe: ProbeOption = None,
    data: DataOption = None,
    database: DatabaseOption = None,
    host_name: HostNameOption = None,
    auth: AuthOption = None,
) -> None:
    """Start only the HTTP server; runners elsewhere share its database and store."""
    settings = make_settings(
        store=store, roots=_pairs(root), rules_files=_pairs(rules_file), probes=_words(probe), gradient_data=_pairs(data),
        database=database, hosts=host_name, auth=auth,
    )  # fmt: skip
    app, asks = make_api(settings, host)
    listen(app, host, port, settings, asks)


def runner(
    store: StoreOption = None,
    root: RootOption = None,
    probe: ProbeOption = None,
    data: DataOption = None,
    database: DatabaseOption = None,
    scheduler: SchedulerOption = None,
    workers: WorkersOption = None,
    jobs: JobsOption = 1,
) -> None:
    """Start only a runner, which claims jobs and has them computed on dask workers."""
    from trajsvc.jobs.data_roots import Roots
    from trajsvc.jobs.database import connect
    from trajsvc.jobs.queue import JobQueue
    from trajsvc.jobs.records import Quota
    from trajsvc.jobs.registered import Registered
    from trajsvc.logs import configure
    from workers.cluster import Cluster
    from workers.job_observer import Limits, RunnerSettings
    from workers.runner import Runner

    settings = make_settings(
        store=store, roots=_pairs(root), probes=_words(probe), gradient_data=_pairs(data), database=database,
        scheduler=scheduler, workers=workers,
    )  # fmt: skip
    configure("runner")
    _make_store(settings.store)
    queue = JobQueue(connect(settings.database_url))
    cluster = Cluster(settings.scheduler, workers=settings.workers or settings.threads)
    allowed = RunnerSettings(
        settings.store.resolve(), Roots(settings.roots), settings.job_memory, Quota(running=settings.quota_running),
        settings.patience, limits=Limits(settings.job_checkpoints, settings.job_bytes, settings.job_seconds),
        registered=Registered(settings.probes, settings.gradient_data),
    )  # fmt: skip
    runners = [Runner(queue, cluster, allowed) for _ in range(jobs)]
    threads = [threading.Thread(target=r.run, name=f"trajsvc-runner-{i}") for i, r in enumerate(runners)]

    def stop() -> None:
        for each in runners:
            each.stop.set()

    with asked(stop):
        _end_with_parent(stop)
        for thread in threads:
            thread.start()
        for thread in threads:
            while thread.is_alive():
                thread.join(1.0)  # a signal that another thread gets, as after SIGSTOP, is acted on once this one runs
        cluster.close()


def worker(
    scheduler: Annotated[str, typer.Argument(metavar="SCHEDULER", help="tcp://host:8786 or tls://…")],
    processes: Annotated[
        int | None, typer.Option("--processes", min=1, help="Worker processes. \\[one a core]")
    ] = None,
    device: Annotated[str, typer.Option("--device", help="cpu, or cuda: one process a GPU, with dask-cuda.")] = "cpu",
) -> None:
    """Join a dask scheduler with workers of this machine. They must see the store and the data roots under the runner's paths."""
    from trajsvc.settings import ServiceSettings

    count = processes or ServiceSettings().threads
    cpu = ["distributed.cli.dask_worker", scheduler, "--nworkers", str(count), "--nthreads", "1"]
    gpu = ["dask_cuda.cli", "worker", scheduler, "--nthreads", "1", "--resources", "GPU=1"]
    rest = ["--no-dashboard", "--memory-limit", "0"]
    sys.argv = [*(gpu if device.startswith("cuda") else cpu), *rest]
    # In this process: dask's own handlers finish the work at the first ^C, and the exit code is still ours.
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


def make_settings(**given: Any) -> ServiceSettings:
    """Make the settings of the service: the environment's, overridden by the command line's."""
    from trajsvc.settings import ServiceSettings

    settings = ServiceSettings(**{k: v for k, v in given.items() if v is not None})
    for name, path in settings.rules_files.items():
        if not path.is_file():
            raise UsageError("bad-rules", f"the rules {name} ({path}) are no file", hint="Give an existing TOML file.")
    return settings


def _words(given: list[str] | None) -> dict[str, str] | None:
    """NAME=WORDS, each name once; None where none is given."""
    if given is None:
        return None
    found = {}
    for pair in given:
        name, separator, words = pair.partition("=")
        if not separator or not name or not words:
            raise UsageError(
                "bad-root", f"{pair!r} is not NAME=VALUE", hint="For example --root runs=/data/checkpoints"
            )
        found[name] = words
    return found


def _pairs(given: list[str] | None) -> dict[str, Path] | None:
    """NAME=PATH, each name once; None where none is given."""
    found = _words(given)
    return None if found is None else {name: Path(path).expanduser() for name, path in found.items()}


def exported(settings: ServiceSettings) -> dict[str, str]:
    """Return the environment in which another process has the same settings."""
    found = {}
    for name, value in settings.model_dump(mode="json").items():
        if value is not None:
            found[f"TRAJSVC_{name.upper()}"] = value if isinstance(value, str) else json.dumps(value)
    found["TRAJSVC_STORE"] = str(settings.store.resolve())
    found["TRAJSVC_DATABASE"] = settings.database_url
    found["TRAJSVC_GRADIENT_DATA"] = json.dumps({k: str(v.resolve()) for k, v in settings.gradient_data.items()})
    found["TRAJSVC_ROOTS"] = json.dumps({k: str(v.resolve()) for k, v in settings.roots.items()})
    return found


def make_api(settings: ServiceSettings, host: str) -> tuple[Any, bool]:
    """Make the application, and return with it whether it asks for tokens."""
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):  # before numpy is imported and starts threads
        os.environ[name] = "1"
    from threadpoolctl import threadpool_limits

    from api import work_server
    from api.app import make_app, make_service
    from api.connections import allowed, answered
    from api.work_processes import WorkProcesses
    from trajsvc.logs import configure

    reachable = host not in LOOPBACK
    asks = settings.auth if settings.auth is not None else (reachable or bool(settings.token))
    if reachable and not asks:
        raise UsageError(
            "open-server", f"a server at {host} that asks for no tokens would be open to everybody",
            hint="Leave out --no-auth, or listen on 127.0.0.1.",
        )  # fmt: skip
    configure("api")
    threadpool_limits(1)  # small matrices: threads would wait for each other more than they compute
    processes = WorkProcesses(settings)
    processes.fork(work_server.forked)  # while there is one thread, and no connection to the database
    service, hosts = make_service(settings, auth=asks, processes=processes), (*settings.hosts, host)
    return make_app(service, hosts, answered(allowed(settings.http_connections))), asks


def listen(
    app: Any, host: str, port: int, settings: ServiceSettings, asks: bool, ending: Callable[[], None] = lambda: None
) -> None:
    """Serve until SIGTERM or ^C; open answers may end first. ``ending`` is called when the server begins to end."""
    from api.connections import allowed
    from api.server import Server

    server = Server(app, host, port, allowed(settings.http_connections), ending)
    sys.setswitchinterval(SWITCH)
    announce = threading.Thread(target=_announce, args=(server, host, settings, asks), daemon=True)
    announce.start()
    # uvicorn raises the signal that ended it once more when it is done: by then there is nothing left to do but to leave in order.
    signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        with asked(partial(setattr, server, "should_exit", True), [signal.SIGINT]):
            server.run()
    except SystemExit:  # uvicorn's way to say that it could not begin
        if server.started:
            raise
    if not server.started:
        raise UsageError("cannot-listen", f"cannot listen on {host}:{port}", hint="Is the port in use? Try --port.")


def _announce(server: Any, host: str, settings: ServiceSettings, asks: bool) -> None:
    while not server.started:
        if server.should_exit:
            return
        time.sleep(0.02)
    port = server.servers[0].sockets[0].getsockname()[1]
    shown = f"[{host}]" if ":" in host else host
    console = errors_console()
    console.print(f"serving http://{shown}:{port}  store {safe(str(settings.store))}", highlight=False)
    if settings.roots:
        console.print(f"data roots {', '.join(f'{k}={v}' for k, v in settings.roots.items())}", highlight=False)
    if asks:
        console.print("tokens are asked for: `trajsvc tokens create NAME` makes one", highlight=False)


class Supervised:
    """A process that is restarted when it dies, and stopped when this process ends."""

    def __init__(self, command: list[str], environment: dict[str, str]) -> None:
        self.command, self.environment = command, {**environment, "TRAJSVC_PARENT": str(os.getpid())}
        self._over = threading.Event()
        self._until: float | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._run, name="trajsvc-supervisor", daemon=True)

    def __enter__(self) -> Supervised:
        self._thread.start()
        return self

    def stop(self) -> None:
        """Ask the process to end, without waiting for it. It and what it started go on first where they were stopped (SIGSTOP)."""
        self._over.set()
        if self._until is None:
            self._until = time.monotonic() + DRAIN
            self._signal(signal.SIGCONT)
            process = self._process
            if process is not None and process.poll() is None:
                process.terminate()

    def __exit__(self, *_: object) -> None:
        self.stop()
        process, until = self._process, self._until
        if process is not None and until is not None:
            try:
                process.wait(max(0.0, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                self._signal(signal.SIGKILL)
        self._thread.join(DRAIN)

    def _signal(self, number: int) -> None:
        """Send a signal to the process and what it started, which is its process group, while it has not ended."""
        process = self._process
        if process is not None and process.poll() is None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, number)

    def _run(self) -> None:
        import structlog

        log = structlog.get_logger()
        pause = 0.5
        while not self._over.is_set():
            begun = time.monotonic()
            # A session of its own: ^C reaches us alone, and we tell it to stop.
            self._process = subprocess.Popen(self.command, env=self.environment, start_new_session=True)
            if self._over.is_set():  # it was not there yet when all was asked to end
                self._process.terminate()
            code = self._process.wait()
            if self._over.is_set():
                return
            pause = 0.5 if time.monotonic() - begun > 30 else min(30.0, pause * 2)
            log.warning("runner-died", code=code, again_in=pause)
            self._over.wait(pause)


def _end_with_parent(stop: Any) -> None:
    """Stop when the process that started us is gone, however it ended."""
    parent = int(os.environ.get("TRAJSVC_PARENT", "0"))
    if not parent:
        return
    os.nice(NICE)  # answers go before arithmetic on a machine that both share; workers inherit it

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        stop()

    threading.Thread(target=watch, daemon=True, name="trajsvc-parent").start()


def _book(store: Path | None, database: str | None) -> Any:
    from trajsvc.jobs.database import connect
    from trajsvc.jobs.tokens import TokenStore

    settings = make_settings(store=store, database=database)
    _make_store(settings.store)
    return TokenStore(connect(settings.database_url))


def create_token(
    name: Annotated[str, typer.Argument(help="Name of its owner or purpose.")],
    scope: Annotated[list[str] | None, typer.Option("--scope", help="read, submit or admin. \\[submit]")] = None,
    expires: Annotated[
        str | None, typer.Option("--expires", metavar="TIME", help="Valid for so long: 90d, 12h, 30m. \\[for ever]")
    ] = None,
    store: StoreOption = None,
    database: DatabaseOption = None,
) -> None:
    """Create a token and print it. It is shown only once; only its digest is stored."""
    from trajsvc.jobs.tokens import lifetime

    seconds = None if expires is None else lifetime(expires)
    secret = _book(store, database).create(name, scope or ["submit"], lifetime=seconds)
    results_console().print(secret, markup=False, soft_wrap=True)


def list_tokens(store: StoreOption = None, database: DatabaseOption = None) -> None:
    """List the tokens; their secrets are not stored."""
    from datetime import UTC, datetime

    from trajsvc.cli.terminal import new_table

    table = new_table(["=id", "name", "scopes", "created", "revoked", "expires"])
    for token in _book(store, database).all():
        times = [
            datetime.fromtimestamp(t, UTC).strftime("%Y-%m-%d %H:%M") if t else ""
            for t in (token.created, token.revoked, token.expires)
        ]
        table.add_row(token.id, safe(token.name), " ".join(sorted(token.scopes)), *times)
    results_console().print(table)


def revoke_token(
    token: Annotated[str, typer.Argument(metavar="ID", help="The token's id, as `trajsvc tokens ls` shows it.")],
    store: StoreOption = None,
    database: DatabaseOption = None,
) -> None:
    """Revoke a token: it is refused from now on."""
    _book(store, database).revoke(token)


def _make_store(store: Path) -> None:
    from storage_schema.runs.store import RunStore

    RunStore(store).make()
