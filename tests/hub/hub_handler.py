"""The read side of the Hub's HTTP interface, models only: who may see what, listings, and where a file's bytes are."""

from __future__ import annotations

import hashlib
import json
from typing import Any
from urllib.parse import parse_qs, quote, urlencode

from hub_bodies import FileExchange
from hub_exchange import JSON, Refusal
from hub_repos import Commit, Content, Repo

_MISSING = "Repository not found"


class HubHandler(FileExchange):
    """Answers one connection's requests."""

    def admin(self, parts: list[str]) -> None:
        """``/_stats``, ``/_stats/reset``, ``/_faults``, ``/_health``: neither counted nor struck by faults."""
        try:
            if parts == ["_stats", "reset"] and self.command == "POST":
                self.state.record.reset()
            elif parts == ["_faults"] and self.command == "POST":
                self.faults.update(json.loads(self.body or b"{}"))
            elif parts not in (["_stats"], ["_faults"], ["_health"]):
                return self.reply(404, b"")
        except (KeyError, TypeError, ValueError) as error:
            return self.reply(400, json.dumps({"unknown": str(error)}).encode(), JSON)
        if parts[0] == "_health":
            return self.json({"repos": sorted(self.state.repos)})
        return self.json(self.state.record.as_json() if parts[0] == "_stats" else self.faults.as_json())

    def route(self, parts: list[str]) -> None:
        if parts[:1] == ["_cdn"]:
            return self._cdn(parts[1:])
        self._check_token()
        if parts[:1] == ["api"]:
            return self._api(parts[1:])
        if len(parts) > 4 and parts[2] in ("resolve", "raw"):
            return self._resolve(self._repo("/".join(parts[:2])), parts[3], "/".join(parts[4:]))
        raise Refusal(404, "Sorry, we can't find the page you are looking for.")

    # ------------------------------------------------------------------ who may see what
    @property
    def _token(self) -> str | None:
        header = self.headers.get("Authorization")
        return header.removeprefix("Bearer ") if header else None

    def _check_token(self) -> None:
        known, token = self.state.tokens, self._token
        wanted = self.faults.peek("require_token", self.where)
        if token is not None and ((wanted and token != wanted) or (known is not None and token not in known)):
            raise Refusal(401, "Invalid credentials in Authorization header")
        if token is None and wanted:
            raise Refusal(401, "Invalid username or password.", "RepoNotFound")

    def _sees(self, repo: Repo) -> bool:
        if not repo.private:
            return True
        return self._token is not None and (repo.readers is None or self._token in repo.readers)

    def _repo(self, repo_id: str) -> Repo:
        repo = self.state.repos.get(repo_id)
        if repo is None or not self._sees(repo):
            if self._token is None:  # strangers are not told whether it exists
                raise Refusal(401, "Invalid username or password.", "RepoNotFound")
            raise Refusal(404, _MISSING, "RepoNotFound")
        if repo.disabled:
            raise Refusal(403, "Access to this resource is disabled.", "DisabledRepo")
        return repo

    def _check_gate(self, repo: Repo) -> None:
        if not repo.gated or self._token in (repo.readers or ()):
            return
        text = f"Access to model {repo.id} is restricted"
        if self._token is None:
            raise Refusal(401, f"{text}. You must have access to it and be authenticated to access it.", "GatedRepo")
        raise Refusal(403, f"{text} and you are not in the authorized list.", "GatedRepo")

    def _commit(self, repo: Repo, revision: str) -> tuple[str, Commit]:
        found = repo.find(revision)
        if found is None:
            raise Refusal(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return found

    # ------------------------------------------------------------------ listings
    def _api(self, parts: list[str]) -> None:
        if parts == ["whoami-v2"]:
            if self._token is None:
                raise Refusal(401, "Invalid username or password.")
            return self.json({"type": "user", "name": "reader", "orgs": [], "auth": {"type": "access_token"}})
        if parts == ["models"]:
            return self._models()
        if parts[:1] != ["models"] or len(parts) < 3:
            raise Refusal(404, _MISSING, "RepoNotFound")
        repo, (what, *rest) = self._repo("/".join(parts[1:3])), (*parts[3:], *([] if parts[3:] else ["revision"]))
        if what == "revision":
            return self.json(
                self._info(repo, self._commit(repo, rest[0] if rest else "main")[1], blobs="blobs" in self.query)
            )
        if what == "refs":
            return self._refs(repo)
        if what == "tree" and rest:
            return self._tree(*self._commit(repo, rest[0]), "/".join(rest[1:]))
        if what == "paths-info" and rest and self.command == "POST":
            return self._paths_info(self._commit(repo, rest[0])[1])
        if what == "commits" and rest:
            rows = [
                {
                    "id": c.id,
                    "title": c.title,
                    "message": "",
                    "date": c.date,
                    "authors": [{"user": repo.id.split("/")[0]}],
                }
                for c in self._commit(repo, rest[0])[1].history()
            ]
            return self._page(rows, 50)
        raise Refusal(404, "Not found")

    def _page(self, rows: list[Any], size: int, head: dict[str, str] | None = None) -> None:
        """One page of a listing, with the address of the next in ``Link``."""
        size = self.state.page_size or size
        size = min(size, int(self.query.get("limit") or size))
        start = int(self.query.get("cursor") or 0)
        head = dict(head or {})
        if start + size < len(rows):
            query = urlencode({**self.query, "cursor": start + size})
            head["Link"] = f'<http://{self.headers.get("Host")}{self.where}?{query}>; rel="next"'
        self.json(rows[start : start + size], head)

    def _models(self) -> None:
        word, author = self.query.get("search", "").lower(), self.query.get("author")
        found = [
            r for r in self.state.repos.values()
            if word in r.id.lower() and author in (None, r.id.split("/")[0]) and self._sees(r) and not r.disabled
        ]  # fmt: skip
        self._page([self._info(r, next(iter(r.heads.values()))) for r in found], 1000)

    def _refs(self, repo: Repo) -> None:
        def rows(kind: str, commits: dict[str, Commit]) -> list[dict[str, str]]:
            return [{"name": n, "ref": f"refs/{kind}/{n}", "targetCommit": c.id} for n, c in commits.items()]

        more: dict[str, Any] = {"pullRequests": []} if "include_prs" in self.query else {}
        self.json({"tags": rows("tags", repo.tagged), "converts": [], "branches": rows("heads", repo.heads), **more})

    def _info(self, repo: Repo, commit: Commit, *, blobs: bool = False) -> dict[str, Any]:
        files = [
            {"rfilename": p, **({"size": f.size, "blobId": f.blob_id} | self._lfs(f, "sha256") if blobs else {})}
            for p, f in commit.files.items()
        ]
        return {
            "_id": hashlib.sha1(repo.id.encode()).hexdigest()[:24], "id": repo.id, "modelId": repo.id, "sha": commit.id,
            "author": repo.id.split("/")[0], "lastModified": commit.date, "createdAt": commit.date, "private": repo.private,
            "gated": "manual" if repo.gated else False, "disabled": repo.disabled, "downloads": 0, "likes": 0, "tags": [],
            "siblings": files, "usedStorage": sum(f.size for f in commit.files.values()),
        }  # fmt: skip

    @staticmethod
    def _lfs(content: Content, digest: str) -> dict[str, Any]:
        if not content.lfs:
            return {}
        return {"lfs": {digest: content.sha256, "size": content.size, "pointerSize": len(content.pointer)}}

    def _entry(self, path: str, commit: Commit, *, expand: bool) -> dict[str, Any]:
        """A row of a listing: a file, or a folder of files."""
        content = commit.files.get(path)
        last = {"lastCommit": {"id": commit.id, "title": commit.title, "date": commit.date}} if expand else {}
        if content is None:
            inside = "\n".join(f"{p} {f.stamp}" for p, f in commit.files.items() if p.startswith(path + "/"))
            return {
                "type": "directory",
                "oid": hashlib.sha1(inside.encode()).hexdigest(),
                "size": 0,
                "path": path,
                **last,
            }
        scan = {"securityFileStatus": {"status": "safe", "avScan": None, "pickleImportScan": None}} if expand else {}
        row = {"type": "file", "oid": content.blob_id, "size": content.size, "path": path}
        return {**row, **self._lfs(content, "oid"), **last, **scan}

    def _tree(self, name: str, commit: Commit, under: str) -> None:
        recursive, expand = (self.query.get(n, "").lower() in ("true", "1") for n in ("recursive", "expand"))
        prefix = under + "/" if under else ""
        paths: dict[str, None] = {}
        for path in (p for p in commit.files if p.startswith(prefix)):
            parts = path[len(prefix) :].split("/")
            for depth in range(1, len(parts) + 1 if recursive else 2):
                paths[prefix + "/".join(parts[:depth])] = None
        if under and not paths:
            raise Refusal(404, f'{under} does not exist on "{name}"', "EntryNotFound")
        self._page(
            [self._entry(p, commit, expand=expand) for p in paths], 50 if expand else 1000, {"X-Repo-Commit": commit.id}
        )

    def _paths_info(self, commit: Commit) -> None:
        if "json" in self.headers.get("Content-Type", ""):
            asked = json.loads(self.body)
            paths, expand = asked["paths"], bool(asked.get("expand"))
        else:
            form = parse_qs(self.body.decode())
            paths, expand = form.get("paths", []), form.get("expand", [""])[-1].lower() in ("true", "1")
        known = [
            p for p in ([paths] if isinstance(paths, str) else paths)
            if p in commit.files or any(q.startswith(p + "/") for q in commit.files)
        ]  # fmt: skip
        self.json([self._entry(p, commit, expand=expand) for p in known])

    # ------------------------------------------------------------------ files
    def _resolve(self, repo: Repo, revision: str, path: str) -> None:
        """A small file itself; for an LFS object the signed address that has it."""
        self._check_gate(repo)
        _, commit = self._commit(repo, revision)
        if path not in commit.files or self.faults.take("gone", self.where):
            raise Refusal(404, "Entry not found", "EntryNotFound", {"X-Repo-Commit": commit.id})
        content = commit.files[path]
        head = {"X-Repo-Commit": commit.id}
        if not content.lfs:
            return self.send_file(content, head)
        head |= {"X-Linked-Size": str(content.size), "X-Linked-ETag": f'"{content.sha256}"'}
        if self.faults.take("redirect_loop", self.where):
            return self._redirect(f"http://{self._host('same')}{self.where}", head)
        if self.state.cdn == "off":
            return self.send_file(content, head)
        target = f"/_cdn/{repo.id}/{commit.id}/{quote(path)}"
        return self._redirect(f"http://{self._host(self.state.cdn)}{target}?{self.state.sign(target)}", head)

    def _host(self, cdn: str) -> str:
        port = self.server.server_address[1]
        return f"localhost:{port}" if cdn == "other" else self.headers.get("Host") or f"127.0.0.1:{port}"

    def _redirect(self, target: str, head: dict[str, str]) -> None:
        self.reply(302, f"Found. Redirecting to {target}".encode(), head={**head, "Location": target})

    def _cdn(self, parts: list[str]) -> None:
        """What a signed address has: it asks for no token, and knows nothing of repositories' gates."""
        signature = self.query.get("Signature", "")
        if len(parts) < 4 or not self.state.signed(self.where, self.query.get("Key-Pair-Id", ""), signature):
            raise Refusal(403, "SignatureDoesNotMatch")
        uses = self.faults.peek("expire_signed", self.where)
        if (
            uses is not None
            and self.state.used(signature) >= uses
            and self.faults.take("expire_signed", self.where) is not None
        ):
            raise Refusal(403, "Request has expired")
        repo = self.state.repos["/".join(parts[:2])]
        content = repo.known[parts[2]].files["/".join(parts[3:])]
        self.send_file(content, {})
