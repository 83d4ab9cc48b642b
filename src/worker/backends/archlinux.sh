#!/bin/bash
# Rebuilds an Arch Linux package from its .pkg.tar.zst, which carries the record of its build in .BUILDINFO
# (BUILDINFO(5)).
#
#   REBUILDERD_OUTDIR=out ./archlinux.sh hello-1.0-1-x86_64.pkg.tar.zst
#
# With repro (archlinux-repro) installed, that is used: it fetches the recorded packages and the sources by itself, so the
# network is on all the time and none of our rules on downloads hold; the result says so.
# Else makepkg does it with the programs of this machine, for repositories that publish source tarballs:
#   REBUILDERD_BACKEND_SOURCE_URL   base of PKGBASE-VERSION.src.tar.gz, as makepkg --allsource makes them;
#                                   default: the folder of REBUILDERD_INPUT_URL, or that of the input
# Exit: 0 built, 1 the build failed, 2 bad input, 3 environment unavailable, 4 source unavailable, 5 our own trouble.
set -euo pipefail
umask 022
export LC_ALL=C.UTF-8
here=$(dirname "$(realpath "$0")")
. "$here/fetch.sh"
builder=1234

# finish CODE REASON SENTENCE: the one way out. The sentence is ours and has no quotes or line ends.
finish() {
  echo "archlinux: $3"
  if [ -n "${REBUILDERD_RESULT-}" ]; then
    printf '{"reason":"%s","note":"%s","present_toolchain":%s}\n' "$2" "${3//[\"\\]/}" "$present" > "$REBUILDERD_RESULT"
  fi
  exit "$1"
}

start() {
  present=false
  input=$(realpath "$1")
  outdir=$(realpath "${REBUILDERD_OUTDIR:?}")
  work=$(mktemp -d "${TMPDIR:-/var/tmp}/rebuild.XXXXXX")
  trap 'rm -rf "$work"' EXIT
  trap 'exit 143' TERM INT HUP
}

with_repro() {
  local code=0 last
  cd "$work"
  NOCHECK=1 "$1" -o "$outdir" -- "$input" 2>&1 | tee "$work/log" || code=${PIPESTATUS[0]}
  # It compares, too, and ends badly where bytes differ: that is for the worker to judge.
  if [ "$code" = 0 ] || has_all; then
    [ -z "${REBUILDERD_RESULT-}" ] ||
      echo '{"note":"built by repro, which downloads by itself, with the network on"}' > "$REBUILDERD_RESULT"
    exit 0
  fi
  grep -q '==>.* Making package' "$work/log" || {
    last=$(grep . "$work/log" | tail -n 1 | tr -d '[:cntrl:]' | head -c 500 | iconv -c -t UTF-8) || :
    finish 3 environment_unavailable "$1 cannot make the build environment: $last"
  }
  finish 1 build_failed "$1 ended with $code"
}

# Whether all is there that was asked for.
has_all() {
  local file
  [ -n "${REBUILDERD_ARTIFACTS-}" ] || return 1
  while read -r file; do [ -f "$outdir/$file" ] || return 1; done <<< "$REBUILDERD_ARTIFACTS"
}

# --- without it ----------------------------------------------------------------------------------------------

value() { sed -n "s/^$1 = //p" "$work/record" | head -n 1; }

# Only this one member is read; the package itself is never unpacked.
read_record() {
  bsdtar -xOqf "$input" .BUILDINFO 2> /dev/null | head -c 5000000 > "$work/record" || :
  [ -s "$work/record" ] || finish 2 input_invalid 'the package has no .BUILDINFO'
  matches "$(value format)" '[12]' || finish 2 input_invalid 'the .BUILDINFO has a format that is not known'
  base=$(value pkgbase)
  version=$(value pkgver)
  start_folder=$(value startdir)
  build_folder=$(value builddir)
  date=$(value builddate)
  packager=$(value packager)
  recipe_hash=$(value pkgbuild_sha256sum)
  matches "$base" '[a-z0-9@_+][a-z0-9@._+-]*' || finish 2 input_invalid 'the .BUILDINFO has an odd pkgbase'
  matches "$version" '([0-9]+:)?[A-Za-z0-9._+~]+-[0-9.]+' || finish 2 input_invalid 'the .BUILDINFO has an odd pkgver'
  matches "$date" '[0-9]{1,12}' || finish 2 input_invalid 'the .BUILDINFO has an odd builddate'
  matches "$recipe_hash" '[0-9a-f]{64}' || finish 2 input_invalid 'the .BUILDINFO has no pkgbuild_sha256sum'
  matches "$packager" '[^[:cntrl:]"\\$`]{1,200}' || finish 2 input_invalid 'the .BUILDINFO has an odd packager'
  usual_folder "$start_folder"
  usual_folder "$build_folder"
}

usual_folder() {
  matches "$1" '(/[A-Za-z0-9+._~-]+){1,}' && [[ $1 != */.* ]] || finish 2 input_invalid 'the .BUILDINFO has an odd folder'
  [[ ! $1 =~ ^/(usr|etc|bin|sbin|lib|lib64|proc|dev|sys|var)(/|$) ]] ||
    finish 2 input_invalid 'the .BUILDINFO has a folder of the system'
}

# It goes to the addresses that were looked at, whatever the name leads to a moment later; one without any is for a
# proxy to look up, which does not ask for the address given here.
fetch_step() { # URL FILE
  local answer nowhere=255.255.255.255 port=80 known=()
  [[ $1 != https:* ]] || port=443
  [[ ! $1 =~ ^[a-z]+://[^/?#]*:([0-9]+)([/?#]|$) ]] || port=${BASH_REMATCH[1]}
  [ -z "$host" ] || [[ $host = *:* ]] || known=(--resolve "$host:$port:$(IFS=,; echo "${addresses[*]:-$nowhere}")")
  answer=$(bounded curl -sSf --proto =http,https,file --connect-timeout 30 --retry 2 "${known[@]}" \
    -o "$2" -w '%{http_code} %{redirect_url}' "$1") || return 1
  [[ $answer = 3* ]] || return 0
  target=${answer#* }
  return 1
}

get_source() {
  local name=$base-${version/:/.}.src.tar.gz near
  near=$(dirname "$input")/$name
  local url=${REBUILDERD_BACKEND_SOURCE_URL:-${REBUILDERD_INPUT_URL%/*}}
  if [ -f "$near" ]; then
    cp "$near" "$work/source.tar"
  else
    matches "$url" '(https?|file)://[^ ]+' ||
      finish 4 source_unavailable 'nobody said where source tarballs are: set source_url in the settings of this backend'
    fetch "$url/${name//+/%2B}" "$work/source.tar" ||
      finish 4 source_unavailable "the source tarball $name cannot be downloaded"
  fi
  mkdir "$work/start"
  bsdtar -C "$work/start" --strip-components 1 --no-same-owner --no-same-permissions -xf "$work/source.tar" ||
    finish 4 source_unavailable 'the source tarball cannot be unpacked'
  [ -f "$work/start/PKGBUILD" ] && [ ! -L "$work/start/PKGBUILD" ] ||
    finish 4 source_unavailable 'the source tarball has no PKGBUILD'
  [ "$(sha256sum < "$work/start/PKGBUILD")" = "$recipe_hash  -" ] ||
    finish 4 source_unavailable 'the PKGBUILD is not the one that the package was built from'
}

words() { sed -nE "s/^$1 = (!?[a-z0-9]+)$/\1/p" "$work/record" | tr '\n' ' '; }

# Options and build environment of the record go back into the settings; compression is the distribution's.
settings() {
  cat << END
. /etc/makepkg.conf
PKGEXT='.pkg.tar.zst'
COMPRESSZST=(zstd -c -T0 --ultra -20 -)
BUILDENV=($(words buildenv))
OPTIONS=($(words options))
END
  [ "$build_folder" = "$start_folder" ] || echo "BUILDDIR=$build_folder"
}

# makepkg looks for faults in a recipe with more than a thousand programs, each time it calls itself. This recipe is the
# one that the package was built from, so it has passed: in place of these checks there are none.
without_checks() {
  local checks=/usr/share/makepkg/lint_pkgbuild.sh
  [ -f "$checks" ] || return 0
  echo 'lint_pkgbuild() { :; }' > "$work/no-checks"
  quicker=(--read "$work/no-checks" "$checks")
}

same_environment() {
  : > "$work/installed"
  ! command -v pacman > /dev/null || pacman -Q 2> /dev/null | sed 's/ /-/' | sort > "$work/installed"
  sed -nE 's/^installed = (.*)-[a-z0-9_]+$/\1/p' "$work/record" | sort > "$work/recorded"
  [ -s "$work/recorded" ] && [ -z "$(comm -23 "$work/recorded" "$work/installed")" ]
}

# What is to be rebuilt must not be there already: a build could make a copy of it.
refuse_copies() {
  local name
  name=$(printf '%s\n' "${REBUILDERD_ARTIFACTS:-${input##*/}}" |
    sed -E 's/%2[Bb]/+/g; s/%3[Aa]/:/g; s/-[a-z0-9_]+\.pkg\.tar\.[a-z0-9]+$//' | grep -xFf - "$work/recorded" "$work/installed" -h |
    head -n 1) || return 0
  finish 3 environment_unavailable "$name is to be rebuilt and part of its own environment"
}

with_makepkg() {
  local program code=0
  for program in makepkg bsdtar curl zstd; do
    command -v "$program" > /dev/null || finish 3 environment_unavailable "neither repro nor $program is installed"
  done
  read_record
  same_environment || present=true
  refuse_copies
  get_source
  mkdir "$work/packages" "$work/pacman"
  settings > "$work/makepkg.conf"
  quicker=()
  without_checks
  chown -R "$builder:$builder" "$work/start" "$work/packages" 2> /dev/null || :
  perl "$here/sandbox.pl" --bind "$work/start" "$start_folder" --bind "$work/packages" /tmp/packages \
    --read "$work/makepkg.conf" /tmp/makepkg.conf "${quicker[@]}" --user "$builder" --directory "$start_folder" -- \
    env -i PATH=/usr/local/bin:/usr/bin:/bin HOME=/nonexistent LC_ALL=C.UTF-8 TZ=UTC \
    "SOURCE_DATE_EPOCH=$date" "PACKAGER=$packager" PKGDEST=/tmp/packages \
    /bin/sh -c 'umask 022; exec makepkg --config /tmp/makepkg.conf --nodeps --nocheck --noprogressbar' || code=$?
  [ "$code" != 125 ] || finish 5 backend_error 'the sandbox for the build cannot be made'
  [ "$code" = 0 ] || finish 1 build_failed "makepkg ended with $code"
  find "$work/packages" -maxdepth 1 -type f -name '*.pkg.tar.zst' -exec cp --no-preserve=ownership,mode -t "$outdir" {} +
  if [ "$present" = true ] && [ -n "${REBUILDERD_RESULT-}" ]; then
    echo '{"note":"built with the programs of this machine","present_toolchain":true}' > "$REBUILDERD_RESULT"
  fi
}

start "$@"
for program in archlinux-repro repro; do
  if command -v "$program" > /dev/null; then with_repro "$program"; fi
done
with_makepkg
