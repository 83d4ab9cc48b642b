#!/bin/bash
# Rebuilds a Fedora package from its source package (.src.rpm) with mock, in a root of its release.
#
#   REBUILDERD_OUTDIR=out ./fedora.sh hello-1.0-1.fc42.src.rpm
#
# Fedora publishes no record of the build environment with its packages, so the result tells that the present
# toolchain was used: equal bytes are equal, different ones prove nothing.
#   REBUILDERD_BACKEND_ROOT   configuration of mock; default fedora-RELEASE-ARCHITECTURE
#   REBUILDERD_BACKEND_BUILD_ROOT   you know the root that the packages were built in: the configuration of mock that
#                             makes it again, or host: it is this machine, with rpmbuild. Then differences count.
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
    printf '{"reason":%s,"note":"%s","present_toolchain":%s}\n' "$(if [ -n "$2" ]; then echo "\"$2\""; else echo null; fi)" "${3//[\"\\]/}" "$present" > "$REBUILDERD_RESULT"
  fi
  exit "$1"
}

start() {
  known=${REBUILDERD_BACKEND_BUILD_ROOT-}
  present=true
  [ -z "$known" ] || present=false
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
  local code=0 root=${known:-${REBUILDERD_BACKEND_ROOT:-fedora-${release:-rawhide}-$architecture}}
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
  local code=0 own builder_name defines
  # shellcheck disable=SC1091
  own=$(. /etc/os-release && echo "${ID-}${VERSION_ID-}")
  [ "$known" = host ] || [ "$own" = "fedora$release" ] ||
    finish 3 environment_unavailable "mock is not installed, and this machine is no Fedora $release"
  refuse_copies
  # Times and host in the header as the distribution has them.
  builder_name=$(rpm -qp --nosignature --qf '%{BUILDHOST}' "$input" 2> /dev/null) || finish 2 input_invalid 'the input is no source package'
  [[ $builder_name =~ ^[A-Za-z0-9._-]{1,255}$ ]] || finish 2 input_invalid 'the source package has an odd build host'
  defines=(--define "_buildhost $builder_name" --define 'source_date_epoch_from_changelog 1'
    --define 'use_source_date_epoch_as_buildtime 1' --define 'clamp_mtime_to_source_date_epoch 1')
  mkdir "$work/top"
  cp "$input" "$work/top/input.src.rpm"
  chown -R "$builder:$builder" "$work/top" 2> /dev/null || :
  perl "$here/sandbox.pl" --bind "$work/top" /builddir --user "$builder" --directory /builddir -- \
    env -i PATH=/usr/bin:/bin HOME=/builddir LC_ALL=C.UTF-8 TZ=UTC \
    rpmbuild --rebuild --nocheck "${defines[@]}" --define '_topdir /builddir/build' /builddir/input.src.rpm || code=$?
  [ "$code" != 125 ] || finish 5 backend_error 'the sandbox for the build cannot be made'
  [ "$code" = 0 ] || finish 1 build_failed "rpmbuild ended with $code"
  collect "$work/top/build/RPMS"
}

# What is to be rebuilt must not be installed here: a build could make a copy of it.
refuse_copies() {
  local name
  while read -r name; do
    [ -z "$name" ] || ! rpm -q "$name" > /dev/null 2>&1 ||
      finish 3 environment_unavailable "$name is to be rebuilt and installed on this machine itself"
  done < <(printf '%s\n' "${REBUILDERD_ARTIFACTS-}" | sed 's/%2[Bb]/+/g; s/%5[Ee]/^/g; s/%7[Ee]/~/g; s/\.rpm$//; /^-/d')
}

collect() {
  find "$1" -type f -name '*.rpm' ! -name '*.src.rpm' -exec cp --no-preserve=ownership,mode -t "$outdir" {} +
  [ -n "$(ls "$outdir")" ] || finish 1 build_failed 'the build ended well but made no package'
  if [ "$present" = true ]; then finish 0 '' 'built with the present toolchain'; fi
  finish 0 '' "built in the root that the settings name: $known"
}

start "$@"
if [ "$known" != host ] && command -v mock > /dev/null; then
  with_mock
elif [[ $known =~ ^(host)?$ ]] && command -v rpmbuild > /dev/null; then
  with_rpmbuild
else
  finish 3 environment_unavailable 'what rebuilds in this root, mock or rpmbuild, is not installed'
fi
