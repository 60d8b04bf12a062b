# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash disable=SC2034 # what is set here is used by those who read it in
#
# Shared by qemu/ and scripts/: where things live, which compilers are used, how long work is shown.

set -euo pipefail
shopt -s inherit_errexit
export LC_ALL=C.UTF-8

# Debian's compilers first: a kernel module and its kernel must come from one and the same rustc, and
# another one (rustup's, say) may stand earlier in the caller's PATH.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin:$PATH
# A make that called us must not pass its flags to the kernel's make.
unset MAKEFLAGS MFLAGS MAKELEVEL MAKEOVERRIDES

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
: "${HOME:=$(getent passwd "$(id -u)" | cut -d: -f6)}"
export HOME
cache=${XDG_CACHE_HOME:-$HOME/.cache}/rlvs
mkdir -p "$cache/log"

series=7.3
bindgen_version=0.72.1

: "${LLVM:=-22}"
: "${RUSTC:=/usr/bin/rustc}"
: "${RUSTDOC:=/usr/bin/rustdoc}"
: "${RUSTFMT:=/usr/bin/rustfmt}"
: "${CARGO:=/usr/bin/cargo}"
: "${CLIPPY_DRIVER:=/usr/bin/clippy-driver}"
: "${BINDGEN:=$cache/bindgen-$bindgen_version/bin/bindgen}"
: "${LIBCLANG_PATH:=/usr/lib/llvm${LLVM}/lib}"
export LIBCLANG_PATH RUSTC RUSTDOC RUSTFMT CARGO

# What every make of the kernel's build system is told, for the kernel and for modules alike.
toolchain=(LLVM="$LLVM" RUSTC="$RUSTC" HOSTRUSTC="$RUSTC" RUSTDOC="$RUSTDOC" RUSTFMT="$RUSTFMT"
	CLIPPY_DRIVER="$CLIPPY_DRIVER" BINDGEN="$BINDGEN")

say() { printf '%s\n' "$*" >&2; }

die() {
	printf 'rlvs: %s\n' "$1" >&2
	shift
	[ $# -eq 0 ] || printf '      %s\n' "$@" >&2
	exit 1
}

# lock NAME: one run at a time makes the artefact NAME; held until the script ends.
lock() {
	exec {lock_fd}>"$cache/lock.$1"
	if ! flock -n "$lock_fd"; then
		say "waiting for another run that makes $1 ..."
		flock "$lock_fd"
	fi
}

elapsed() { printf '%dm%02ds' $(($1 / 60)) $(($1 % 60)); }

# shown LOG TITLE CMD...: runs CMD with its output in LOG, shows on stderr that it moves, and leaves its exit
# status in $shown_status and its seconds in $shown_time. Not for use in a condition, where the shell would
# ignore errors inside CMD.
shown() {
	local log=$1 title=$2 start=$SECONDS told=0 pid tty=
	shift 2
	[ ! -t 2 ] || tty=1
	[ -n "$tty" ] || say "$title ..."
	set -m
	"$@" >"$log" 2>&1 </dev/null &
	pid=$!
	set +m
	# shellcheck disable=SC2064
	trap "kill -- -$pid 2>/dev/null; exit 130" INT TERM HUP
	while kill -0 "$pid" 2>/dev/null; do
		shown_time=$((SECONDS - start))
		if [ -n "$tty" ]; then
			printf '\r\033[K%s  %s  %.50s' "$(elapsed "$shown_time")" "$title" "$(last_line "$log")" >&2
		elif [ $((shown_time - told)) -ge 15 ]; then
			told=$shown_time
			say "  $(elapsed "$told")  $(last_line "$log")"
		fi
		# Soon back from what is short, hardly there in what is long.
		sleep $((shown_time < 3 ? 0 : 1)).2
	done
	shown_status=0
	wait "$pid" || shown_status=$?
	shown_time=$((SECONDS - start))
	trap - INT TERM HUP
	[ -z "$tty" ] || printf '\r\033[K' >&2
}

# step NAME TITLE HINT CMD...: shown, with a log in the cache. When CMD fails, prints the end of the log and HINT
# (what to do) and ends the script.
step() {
	local log=$cache/log/$1.log title=$2 hint=$3
	shift 3
	shown "$log" "$title" "$@"
	if [ "$shown_status" -ne 0 ]; then
		say "the end of $log:"
		tail -n 20 "$log" | sed 's/^/  | /' >&2
		die "$title: failed after $(elapsed "$shown_time")" "$hint"
	fi
	say "$title: done in $(elapsed "$shown_time")"
}

# shellcheck disable=SC2016
last_line() { tail -c 400 "$1" 2>/dev/null | tr -d '\r' | tr '\t' ' ' | sed -n 's/^ *//; /./h; ${x;p}'; }

# key FILE-OR-TEXT...: a short name for what an artefact is made from.
key() { printf '%s\n' "$@" | sha256sum | cut -c1-12; }

as_root() {
	if [ "$(id -u)" -eq 0 ]; then
		"$@"
	else
		sudo -n "$@"
	fi
}

can_be_root() { [ "$(id -u)" -eq 0 ] || sudo -n true 2>/dev/null; }

# The machine's own mirror for its own suite, as apt knows it.
mirror() {
	local codename uri
	codename=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)
	# shellcheck disable=SC2016
	uri=$(apt-get indextargets --format '$(REPO_URI) $(CODENAME) $(LABEL)' 'Created-By: Packages' |
		awk -v c="$codename" '$2 == c && $3 == "Debian" { print $1; exit }')
	[ -n "$uri" ] || die "apt knows no Debian mirror for $codename" \
		"Run 'apt-get update' as root, then start again."
	printf '%s\n' "$uri"
}
