"""What runs on a device: POSIX sh, coreutils, and the interpreter there."""

import shlex

#: below the home folder there; beside it may lie what an nbedge that is installed there keeps
CACHE = ".cache/nbedge/device"
#: begins the line of ours in whatever else the shell there prints
MARK = "NBEDGE-DEVICE "

#: ends with its input, which ends with the process at the other end, however that ends
HOLD = "exec cat >/dev/null"

#: $1 an interpreter, $2 what it runs
PYTHON = '"$1" -c "$2"'

#: its expressions are understood by Python 2 too, which is then told to be too old
IDENTIFY = (
    "import json, os, platform, struct, sys; "
    f'print("{MARK}" + json.dumps(dict(machine=platform.machine(), bits=8 * struct.calcsize("P"), '
    'python=list(sys.version_info[:3]), home=os.path.expanduser("~"))))'
)

#: with the names of distributions; those that are installed there, and their versions
VERSIONS = (
    "import json, importlib.metadata as m; "
    f'print("{MARK}" + json.dumps(dict((d.metadata["Name"], d.version) for d in m.distributions() '
    'if d.metadata["Name"] in {names})))'
)

#: $@ names of files
DIGESTS = f'cd "$HOME/{CACHE}/files" 2>/dev/null && sha256sum -- "$@" 2>/dev/null; exit 0'

#: $1 the digest, $2 the name; a copy that is not whole, since the line broke, is never seen under that name
RECEIVE = f"""
umask 077
mkdir -p "$HOME/{CACHE}/files" && cd "$HOME/{CACHE}/files" || exit 1
part=".$2.$$"
trap 'rm -f "$part"' EXIT
trap "exit 1" HUP INT TERM
cat >"$part" || exit 1
case $(sha256sum <"$part") in
  "$1"*) mv "$part" "$2" ;;
  *) echo "the copy is not whole" >&2; exit 1 ;;
esac
"""

#: $1 seconds, $@ a command, which gets the first line of the input and ends with the input: no command outlives the
#: connection, and none its time should the device not notice that the connection is gone
GUARD = """
exec 3<&0
IFS= read -r job <&3
seconds=$1; shift
export ORT_DISABLE_TELEMETRY=1
printf "%s\\n" "$job" | timeout -k 5 "$seconds" "$@" 3<&- &
command=$!
( IFS= read -r more <&3; kill -TERM "$command" ) >/dev/null 2>&1 &
watch=$!
wait "$command"; status=$?
kill "$watch" 2>/dev/null
exit "$status"
"""

#: $1 an interpreter, $2 a folder, $@ requirements
MAKE_ENVIRONMENT = """
python=$1; folder=$2; shift 2
test -e "$folder/ready" && exit 0
umask 077
trap 'test -e "$folder/ready" || rm -rf "$folder"' EXIT
trap "exit 1" HUP INT TERM
rm -rf "$folder"; mkdir -p "$folder" && "$python" -m venv "$folder" || exit 1
"$folder/bin/python" -m pip --disable-pip-version-check install --quiet --no-cache-dir --only-binary :all: "$@" &&
touch "$folder/ready"
"""

#: a folder that others use too stays
CLEAN = f'cd && rm -rf "{CACHE}" && rmdir .cache/nbedge .cache 2>/dev/null; test ! -e "$HOME/{CACHE}"'


def as_command(script: str, *arguments: str) -> str:
    """Return what the login shell, whichever it is, is given so that sh runs `script`, with messages in English."""
    return "exec sh -c " + " ".join(shlex.quote(word) for word in (f"export LC_ALL=C\n{script}", "sh", *arguments))
