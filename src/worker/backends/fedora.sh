#!/bin/bash
# Rebuilds a Fedora package from its source package (.src.rpm) with mock, in a root of its release.
#
#   REBUILDERD_OUTDIR=out ./fedora.sh hello-1.0-1.fc42.src.rpm
#
# Fedora publishes no record of the build environment with its packages, so the result tells that the present
# toolchain was used: equal bytes are equal, different ones prove nothing.
#   REBUILDERD_BACKEND_ROOT   configuration of mock; default fedora-RELEASE-ARCHITECTURE
# Without mock, rpmbuild does it where the machine itself is a Fedora of that release.
# Exit: 0 built, 1 the build failed, 2 bad input, 3 environment unavailable, 5 our own trouble.
set -euo pipefail
umask 022
export LC_ALL=C.UTF-8
here=$(dirname "$(realpath "$0")")
builder=1234

finish() { # CODE REASON SENTENCE
  echo "fedora: $3"
  if [ -n "${REBUILDERD_RESULT-}" ]; then
    printf '{"reason":%s,"note":"%s","present_toolchain":true}\n' "$(if [ -n "$2" ]; then echo "\"$2\""; else echo null; fi)" "${3//[\"\\]/}" > "$REBUILDERD_RESULT"
  fi
  exit "$1"
}

start() {
  input=$(realpath "$1")
  outdir=$(realpath "${REBUILDERD_OUTDIR:?}")
  work=$(mktemp -d "${TMPDIR:-/var/tmp}/rebuild.XXXXXX")
  trap 'rm -rf "$work"' EXIT
  trap 'exit 143' TERM INT HUP
  [[ $input = *.src.rpm ]] || finish 2 input_invalid 'the input is not a source package (.src.rpm)'
  architecture=${REBUILDERD_ARCHITECTURE:-$(uname -m)}
  [ "$architecture" != noarch ] || architecture=$(uname -m)
  release=${REBUILDERD_RELEASE-}
  [[ $architecture =~ ^[a-z0-9_]+$ && $release =~ ^[A-Za-z0-9]*$ ]] ||
    finish 2 input_invalid 'the release or the architecture has an odd name'
}

with_mock() {
  local code=0 root=${REBUILDERD_BACKEND_ROOT:-fedora-${release:-rawhide}-$architecture}
  [[ $root =~ ^[A-Za-z0-9._+-]+$ ]] || finish 2 input_invalid 'the configuration of mock has an odd name'
  mock -r "$root" --rebuild --resultdir "$work/result" --uniqueext "job$$" "$input" || code=$?
  case $code in
    0) ;;
    10) finish 1 build_failed 'the build failed in mock' ;;
    30 | 40 | 50) finish 3 environment_unavailable "mock cannot make the root $root (exit $code)" ;;
    *) finish 5 backend_error "mock ended with $code" ;;
  esac
  collect "$work/result"
}

with_rpmbuild() {
  local code=0 own
  # shellcheck disable=SC1091
  own=$(. /etc/os-release && echo "${ID-}${VERSION_ID-}")
  [ "$own" = "fedora$release" ] ||
    finish 3 environment_unavailable "mock is not installed, and this machine is no Fedora $release"
  mkdir "$work/top"
  cp "$input" "$work/top/input.src.rpm"
  chown -R "$builder:$builder" "$work/top" 2> /dev/null || :
  /bin/bash "$here/sandbox.sh" --bind "$work/top" /builddir --user "$builder" --directory /builddir -- \
    env -i PATH=/usr/bin:/bin HOME=/builddir LC_ALL=C.UTF-8 TZ=UTC \
    rpmbuild --rebuild --nocheck --define '_topdir /builddir/build' /builddir/input.src.rpm || code=$?
  [ "$code" != 125 ] || finish 5 backend_error 'the sandbox for the build cannot be made'
  [ "$code" = 0 ] || finish 1 build_failed "rpmbuild ended with $code"
  collect "$work/top/build/RPMS"
}

collect() {
  find "$1" -type f -name '*.rpm' ! -name '*.src.rpm' -exec cp --no-preserve=ownership,mode -t "$outdir" {} +
  [ -n "$(ls "$outdir")" ] || finish 1 build_failed 'the build ended well but made no package'
  finish 0 '' 'built with the present toolchain'
}

start "$@"
if command -v mock > /dev/null; then
  with_mock
elif command -v rpmbuild > /dev/null; then
  with_rpmbuild
else
  finish 3 environment_unavailable 'neither mock nor rpmbuild is installed'
fi
