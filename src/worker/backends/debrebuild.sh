#!/bin/bash
# Rebuilds Debian packages from a .buildinfo with debrebuild (devscripts), for those who trust that over debian.sh.
#
#   REBUILDERD_OUTDIR=out ./debrebuild.sh hello_1.0_amd64.buildinfo
#
# Chosen by configuration:
#
#   [backend.debian]
#   path = "built-in:debrebuild"
#   builder = "mmdebstrap"     # or what else debrebuild knows, such as sbuild+unshare
#
# debrebuild gets packages and source from snapshot.debian.org and builds in one step, so the network is on all the
# time and none of our rules on downloads hold; the result says so. What it says of the bytes does not count: files are compared by the worker.
# Exit: 0 built, 1 the build failed, 2 bad input, 3 environment unavailable, 4 source unavailable, 5 our own trouble.
set -euo pipefail
umask 022
export LC_ALL=C.UTF-8

finish() { # CODE REASON SENTENCE: the one way out
  local reason=null note=${3//[\"\\]/}
  [ -z "$2" ] || reason="\"$2\""
  [ -z "$note" ] || echo "debrebuild: $note"
  if [ -n "${REBUILDERD_RESULT-}" ]; then
    note=$(tr -d '[:cntrl:]' <<< "$note" | head -c 900 | iconv -c -t UTF-8)
    printf '{"reason":%s,"note":"%s"}\n' "$reason" "$note" > "$REBUILDERD_RESULT"
  fi
  exit "$1"
}

start() {
  input=$(realpath "$1")
  outdir=$(realpath "${REBUILDERD_OUTDIR:?}")
  work=$(mktemp -d "${TMPDIR:-/var/tmp}/rebuild.XXXXXX")
  trap 'rm -rf "$work"' EXIT
  trap 'exit 143' TERM INT HUP
  builder=${REBUILDERD_BACKEND_BUILDER:-mmdebstrap}
  [[ $builder =~ ^[a-z0-9+-]{1,40}$ ]] || finish 5 backend_error 'the setting builder has an odd value'
}

# Only what the signature covers, if there is one; whether it is good was for the server to check.
without_armour() {
  awk '
    /^-----BEGIN PGP SIGNED MESSAGE-----/ { if (before) exit 1; signed = 1; header = 1; next }
    header { if ($0 ~ /^[ \t\r]*$/) header = 0; next }
    /^-----BEGIN PGP SIGNATURE-----/ { exit }
    signed { sub(/^- /, "") }
    { sub(/\r$/, ""); if ($0 != "") { before = !signed; print } }' "$1"
}

# debrebuild hands some fields to shells as they are: it gets a copy of what was looked at here.
check_input() {
  [[ $input = *.buildinfo ]] || finish 2 input_invalid 'the input is not a .buildinfo'
  [ "$(stat -c %s "$input")" -le 20000000 ] || finish 2 input_invalid 'the input is larger than 20 MB'
  local odd='^[A-Z_][A-Z0-9_]*="[A-Za-z0-9 .,:;/=+_%@~^-]*"$'
  mkdir "$work/input"
  plain=$work/input/$(basename "$input")
  without_armour "$input" > "$plain" || finish 2 input_invalid 'the input has text before what is signed'
  awk '/^Environment:/ { on = 1; next } /^[^ \t]/ { on = 0 } on { sub(/^[ \t]+/, ""); print }' "$plain" |
    grep -vE "$odd" > "$work/odd" && finish 2 input_invalid 'the input has an odd Environment'
  grep -qE '^(Source|Version|Architecture|Build-Path|Build-Architecture|Host-Architecture):.*[^A-Za-z0-9 .:+~/()_-]' \
    "$plain" && finish 2 input_invalid 'the input has a field with odd characters'
  return 0
}

check_program() {
  local said
  command -v debrebuild > /dev/null || finish 3 environment_unavailable 'debrebuild is not installed (devscripts)'
  said=$(debrebuild --help 2>&1) || finish 5 backend_error "debrebuild does not start: $(head -n 1 <<< "$said")"
  options=("--buildresult=$work/result" "--builder=$builder")
  if grep -qE '^ *--cache' <<< "$said"; then
    mkdir -p "${REBUILDERD_CACHE:-/var/tmp}/debrebuild"
    options+=("--cache=${REBUILDERD_CACHE:-/var/tmp}/debrebuild")
  fi
}

# All that is wanted is there, or, run by hand, anything.
has_all() {
  local file
  if [ -z "${REBUILDERD_ARTIFACTS-}" ]; then
    compgen -G "$work/result/*.*deb" > /dev/null
    return
  fi
  while read -r file; do [ -f "$work/result/$file" ] || return 1; done <<< "$REBUILDERD_ARTIFACTS"
}

# Only the words before the build began tell of the environment: a build may print anything.
explain() {
  local code=$1 last
  if grep -q '^dpkg-buildpackage: info: source package ' "$work/log"; then
    finish 1 build_failed "debrebuild ended with $code"
  fi
  last=$(grep . "$work/log" | tail -n 2 | paste -sd ' ') || last="it ended with $code"
  case $(tail -n 50 "$work/log") in
    *'cannot load '* | *'need '*' field'* | *'deps_parse failed'* | *'nothing to build'* | *'Refusing to use '*)
      finish 2 input_invalid "debrebuild refuses the input: $last" ;;
    *'apt-get source failed'* | *'dpkg-source failed'* | *debsnap:*)
      finish 4 source_unavailable "debrebuild found no source: $last" ;;
  esac
  finish 3 environment_unavailable "debrebuild cannot make the build environment: $last"
}

start "$@"
check_input
check_program
mkdir "$work/result"
cd "$work"
code=0
debrebuild "${options[@]}" -- "$plain" 2>&1 | tee "$work/log" || code=${PIPESTATUS[0]}
has_all || [ "$code" = 0 ] || explain "$code"
find "$work/result" -maxdepth 1 -type f -name '*.*deb' -exec cp --no-preserve=ownership,mode -t "$outdir" {} +
finish 0 '' 'built by debrebuild, with the network on'
