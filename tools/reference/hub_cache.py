"""One cache, two libraries: huggingface_hub reads what drrik wrote, and the reverse.

Serves a small Hub on this machine (two ports, so that large files are redirected to another host),
then lets drrik fetch a model and a dataset and asks huggingface_hub for them without a network, and
the other way round; last, both fetch the same files at once. Prints one line a check.

    python tools/reference/hub_cache.py build/release/bin/drrik

Pinned: huggingface_hub 2.4.0, filelock 4.2.12.
"""

import hashlib
import http.server
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse

DRRIK = os.path.abspath(sys.argv[1])
FOLDER = tempfile.mkdtemp(prefix="drrik-hub-cache-")


def git_sha1(data):
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


random.seed(1)
REPOS = {
    "models/org/tiny": {
        "config.json": (b'{"model_type": "gpt2"}', False),
        "tokenizer.json": (b"{}", False),
        "sub/folder/notes.txt": ("näïve\n".encode(), False),
        "model.safetensors": (random.randbytes(3_000_000), True),
    },
    "datasets/org/data": {
        "README.md": (b"---\nlicense: mit\n---\n", False),
        "data/train.jsonl": (b'{"text": "a"}\n' * 1000, True),
    },
}
COMMITS = {name: hashlib.sha1(name.encode()).hexdigest() for name in REPOS}
STORED = {hashlib.sha256(d).hexdigest(): d for r in REPOS.values() for d, lfs in r.values() if lfs}
SEEN = []
# Where the storage falls silent within an answer (`bytes`), that it has (`half`), and when to go on (`go`).
HOLD = {"bytes": None, "half": threading.Event(), "go": threading.Event()}


class Storage(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def answer(self, status, body=b"", headers=()):
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        hold = HOLD["bytes"]
        if hold and len(body) > hold:
            go = HOLD["go"]
            self.wfile.write(body[:hold])
            HOLD["half"].set()
            go.wait(60)
            body = body[hold:]
        try:
            self.wfile.write(body)
        except ConnectionError:
            pass  # the other end was killed

    def content(self, body, headers=()):
        sent = self.headers.get("Range")
        if not sent:
            return self.answer(200, body, headers)
        begin = int(sent[6:].split("-")[0])
        span = f"bytes {begin}-{len(body) - 1}/{len(body)}"
        return self.answer(206, body[begin:], [*headers, ("Content-Range", span)])

    def do_GET(self):
        SEEN.append(("storage", self.command, self.path, self.headers.get("Authorization")))
        self.content(STORED[self.path.split("?")[0].strip("/")])

    do_HEAD = do_GET


class Hub(Storage):
    def do_GET(self):
        SEEN.append(("hub", self.command, self.path, self.headers.get("Authorization")))
        path = urllib.parse.urlsplit(self.path).path
        api = path.startswith("/api/")
        full = path[5:] if api else path[1:]
        if not api and not full.startswith("datasets/"):
            full = "models/" + full
        for name, files in REPOS.items():
            if full == name or full.startswith(name + "/"):
                return self.repo(name, files, full[len(name):], api)
        self.answer(404, b"{}", [("X-Error-Code", "RepoNotFound")])

    do_HEAD = do_GET

    def repo(self, name, files, rest, api):
        commit = COMMITS[name]
        if api and rest.startswith("/tree/"):
            tree = []
            for path, (data, lfs) in files.items():
                entry = {"type": "file", "path": path, "size": len(data), "oid": git_sha1(data)}
                if lfs:
                    entry["lfs"] = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}
                tree.append(entry)
            return self.answer(200, json.dumps(tree).encode())
        if api:
            info = {"id": name.split("/", 1)[1], "sha": commit, "siblings": [{"rfilename": f} for f in files],
                    "private": False, "downloads": 0, "likes": 0, "tags": []}
            return self.answer(200, json.dumps(info).encode())
        _, _, _, path = rest.split("/", 3)
        path = urllib.parse.unquote(path)
        common = [("X-Repo-Commit", commit)]
        if path not in files:
            return self.answer(404, b"", [*common, ("X-Error-Code", "EntryNotFound")])
        data, lfs = files[path]
        if not lfs:
            return self.content(data, [*common, ("ETag", f'"{git_sha1(data)}"')])
        digest = hashlib.sha256(data).hexdigest()
        location = f"http://localhost:{storage.server_port}/{digest}?signature=x"
        self.answer(302, b"", [*common, ("X-Linked-Etag", f'"{digest}"'), ("X-Linked-Size", str(len(data))),
                               ("Location", location)])


hub = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
storage = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Storage)
for server in (hub, storage):
    threading.Thread(target=server.serve_forever, daemon=True).start()

ENDPOINT = f"http://127.0.0.1:{hub.server_port}"
# Before the import: huggingface_hub reads its environment once.
os.environ.update(HF_ENDPOINT=ENDPOINT, HF_HOME=FOLDER + "/home", HF_HUB_DISABLE_PROGRESS_BARS="1",
                  HF_HUB_DISABLE_TELEMETRY="1", HF_TOKEN="hf_secret")
os.environ.pop("HF_HUB_OFFLINE", None)

import huggingface_hub  # noqa: E402
from huggingface_hub import hf_hub_download, scan_cache_dir, snapshot_download, try_to_load_from_cache  # noqa: E402

failures = 0
checks = 0


def check(what, good):
    global failures, checks
    checks += 1
    failures += not good
    print("ok  " if good else "FAIL", what)


def drrik(*args):
    done = subprocess.run([DRRIK, *args], capture_output=True, text=True, timeout=120)
    if done.returncode != 0:
        print(done.stderr)
    return done.stdout.strip()


def same(folder, name):
    return all(open(os.path.join(folder, f), "rb").read() == data for f, (data, _) in REPOS[name].items())


def same_file(cache):
    path = try_to_load_from_cache("org/tiny", "model.safetensors", cache_dir=cache)
    return isinstance(path, str) and open(path, "rb").read() == REPOS["models/org/tiny"]["model.safetensors"][0]


def layout(cache):
    """Every entry below: links with their target, files with their checksum; locks by name only."""
    out = {}
    for root, _, names in os.walk(cache):
        for name in names:
            path = os.path.join(root, name)
            key = os.path.relpath(path, cache)
            if os.path.islink(path):
                out[key] = "-> " + os.readlink(path)
            elif ".locks" in key or key == "CACHEDIR.TAG":
                out[key] = ""
            elif key.startswith("blobs/") or "/trees/" in key:
                out[key] = json.dumps(json.load(open(path))) if key.endswith(".json") else ""
            else:
                out[key] = hashlib.sha256(open(path, "rb").read()).hexdigest()
    return out


print("huggingface_hub", huggingface_hub.__version__)
ours, theirs = FOLDER + "/ours", FOLDER + "/theirs"
kinds = (("org/tiny", "model", "models/org/tiny"), ("org/data", "dataset", "datasets/org/data"))

for repo, kind, name in kinds:
    folder = drrik("download", repo, "--repo-type", kind, "--cache-dir", ours)
    found = snapshot_download(repo, repo_type=kind, cache_dir=ours, local_files_only=True)
    check(f"snapshot_download(local_files_only) finds drrik's {kind}", os.path.samefile(found, folder) and same(found, name))
    before = len(SEEN)
    snapshot_download(repo, repo_type=kind, cache_dir=ours)
    check(f"  and fetches no file of it again", not any("resolve" in s[2] for s in SEEN[before:]))
    for file in REPOS[name]:
        path = try_to_load_from_cache(repo, file, repo_type=kind, cache_dir=ours)
        check(f"  try_to_load_from_cache({file})", isinstance(path, str) and os.path.exists(path))

info = scan_cache_dir(ours)
check("scan_cache_dir has no warning", not info.warnings)
check("  and sees both repositories", {(r.repo_id, r.repo_type) for r in info.repos} == {(r, k) for r, k, _ in kinds})
check("  and their refs", all({ref for rev in r.revisions for ref in rev.refs} == {"main"} for r in info.repos))
listed = json.loads(drrik("cache", "--cache-dir", ours, "--json"))
check("drrik cache counts the same bytes", {r["repo"]: r["bytes"] for r in listed["repos"]}
      == {r.repo_id: r.size_on_disk for r in info.repos})

for repo, kind, name in kinds:
    found = snapshot_download(repo, repo_type=kind, cache_dir=theirs)
    before = len(SEEN)
    folder = drrik("download", repo, "--repo-type", kind, "--cache-dir", theirs, "--offline")
    check(f"drrik --offline finds huggingface_hub's {kind}", os.path.samefile(found, folder) and same(folder, name))
    drrik("download", repo, "--repo-type", kind, "--cache-dir", theirs)
    check("  and fetches no file of it again", not any("resolve" in s[2] for s in SEEN[before:]))
check("drrik cache verify finds no fault", json.loads(drrik("cache", "verify", "--cache-dir", theirs, "--json"))["problems"] == [])

a, b = layout(ours), layout(theirs)
for key in sorted(set(a) ^ set(b)):
    print("     only", "drrik" if key in a else "huggingface_hub", "has", key)
check("both caches have the same entries", all(a[k] == b[k] for k in set(a) & set(b)) and not set(a) ^ set(b))

# What is known to be absent, in both directions.
absent = FOLDER + "/absent"
subprocess.run([DRRIK, "tokenize", "--model", "org/tiny", "--text", "x", "--cache-dir", absent], capture_output=True)
mark = try_to_load_from_cache("org/tiny", "generation_config.json", cache_dir=absent)
check("huggingface_hub knows what drrik found absent", mark is huggingface_hub.file_download._CACHED_NO_EXIST)

# At once, and a part that drrik left is no harm to the library.
both = FOLDER + "/both"
process = subprocess.Popen([DRRIK, "download", "org/tiny", "--cache-dir", both], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
found = snapshot_download("org/tiny", cache_dir=both)
folder = process.communicate()[0].decode().strip()
check("both at once end with one cache", os.path.samefile(found, folder) and same(found, "models/org/tiny"))

# A lock that the library holds is waited for.
from filelock import FileLock, Timeout  # noqa: E402

digest = hashlib.sha256(REPOS["models/org/tiny"]["model.safetensors"][0]).hexdigest()
locked = FOLDER + "/locked"
os.makedirs(locked + "/.locks/models--org--tiny")
with FileLock(f"{locked}/.locks/models--org--tiny/{digest}.lock", mode=0o664):
    process = subprocess.Popen([DRRIK, "download", "org/tiny", "model.safetensors", "--cache-dir", locked],
                               stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    time.sleep(1.5)
    waits = process.poll() is None
check("drrik waits for filelock's lock", waits and process.wait(60) == 0)
check("  and goes on once it is given back", same_file(locked))

# A lock that drrik holds is waited for: the storage sends half and falls silent until we have looked.
held = FOLDER + "/held"
HOLD["bytes"] = 1_500_000
process = subprocess.Popen([DRRIK, "download", "org/tiny", "model.safetensors", "--cache-dir", held],
                           stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env={**os.environ, "HF_HUB_DOWNLOAD_TIMEOUT": "60"})
check("drrik holds the storage's answer", HOLD["half"].wait(30))
lock = FileLock(f"{held}/.locks/models--org--tiny/{digest}.lock", mode=0o664)
try:
    lock.acquire(timeout=0.5)
    taken = True
    lock.release()
except Timeout:
    taken = False
check("filelock cannot take the lock that drrik holds", not taken)
fetched = []
thread = threading.Thread(target=lambda: fetched.append(hf_hub_download("org/tiny", "model.safetensors", cache_dir=held)))
thread.start()
time.sleep(1.5)
check("huggingface_hub waits for drrik's lock", thread.is_alive() and not fetched)
gets = sum(s[:2] == ("storage", "GET") for s in SEEN)
HOLD["bytes"] = None
HOLD["go"].set()
code = process.wait(60)
thread.join(60)
check("  and then takes what drrik fetched", code == 0 and len(fetched) == 1 and same_file(held))
check("  without fetching it again", gets == sum(s[:2] == ("storage", "GET") for s in SEEN))

# What a killed drrik held is free.
killed = FOLDER + "/killed"
HOLD.update(bytes=1_000_000, half=threading.Event(), go=threading.Event())
process = subprocess.Popen([DRRIK, "download", "org/tiny", "model.safetensors", "--cache-dir", killed],
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
HOLD["half"].wait(30)
process.kill()
process.wait()
HOLD["bytes"] = None
HOLD["go"].set()
hf_hub_download("org/tiny", "model.safetensors", cache_dir=killed)
check("huggingface_hub goes on where drrik was killed", same_file(killed))

path = hf_hub_download("org/tiny", "sub/folder/notes.txt", cache_dir=locked, local_dir=FOLDER + "/dir")
drrik("download", "org/tiny", "--local-dir", FOLDER + "/dir", "--cache-dir", locked)
before = len(SEEN)
snapshot_download("org/tiny", local_dir=FOLDER + "/dir", cache_dir=locked)
check("a local folder of drrik's is up to date for the library",
      same(FOLDER + "/dir", "models/org/tiny") and not any(s[0] == "storage" for s in SEEN[before:]))
check("no token at the storage", all(s[3] is None for s in SEEN if s[0] == "storage"))
check("the token at the Hub", all(s[3] == "Bearer hf_secret" for s in SEEN if s[0] == "hub"))
print(f"{checks - failures}/{checks}")
sys.exit(failures != 0)
