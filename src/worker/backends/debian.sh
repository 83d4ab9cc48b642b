#!/bin/bash
# Rebuilds Debian packages from a .buildinfo, in exactly the environment that it records
# (reproducible-builds.org/docs/recording, deb-buildinfo(5)), or from a .dsc with the suite's present toolchain.
#
#   REBUILDERD_OUTDIR=out ./debian.sh hello_1.0_amd64.buildinfo
#
# Environment, all but the first optional:
#   REBUILDERD_OUTDIR       folder for the .deb files
#   REBUILDERD_RESULT       file for a small JSON: reason, note, environment, missing, present_toolchain
#   REBUILDERD_CACHE        folder for package lists and build roots; default /var/tmp/rebuilderd-cache-UID
#   REBUILDERD_RELEASE      suite, default that of this machine
#   REBUILDERD_ARCHITECTURE, REBUILDERD_ARTIFACTS   what a .dsc is wanted for: amd64 or all; file names, one a line
#   REBUILDERD_INPUT_URL    where the input came from; its source package may lie beside it
#   REBUILDERD_BACKEND_SOURCES    apt one-line sources; default: this machine's, for that suite
#   REBUILDERD_BACKEND_SNAPSHOT   more of them, such as https://snapshot.debian.org/archive/debian/20250101T000000Z
#   REBUILDERD_BACKEND_PRESENT_TOOLCHAIN   true: where recorded versions are gone, take the present ones and say so
#   REBUILDERD_BACKEND_HOST       false: never build with the packages installed on this machine
#   REBUILDERD_BACKEND_CACHE_BYTES   bound on the size of all build roots together, default 20 GB
#   REBUILDERD_BACKEND_BUILD_OPTIONS   added to DEB_BUILD_OPTIONS, such as nocheck
#
# Exit: 0 built, 1 the build failed, 2 bad input, 3 environment unavailable, 4 source unavailable, 5 our own trouble.
# Needs apt, dpkg-dev, util-linux and perl-base; build roots need mmdebstrap.
set -euo pipefail
umask 022
export LC_ALL=C.UTF-8
here=$(dirname "$(realpath "$0")")
. "$here/fetch.sh"
builder=1234
name_pattern='[a-z0-9][a-z0-9+.-]+'
version_pattern='([0-9]+:)?[A-Za-z0-9][A-Za-z0-9.+~-]*'

say() { echo "debian: $*"; }

# finish CODE REASON SENTENCE: the one way out. The sentence is ours and has no quotes or line ends.
finish() {
  local code=$1 reason=$2
  shift 2
  [ -z "$*" ] || say "$*"
  if [ -n "${REBUILDERD_RESULT-}" ]; then
    printf '{"reason":%s,"note":%s,"environment":[%s],"missing":[%s],"present_toolchain":%s}\n' \
      "$(quoted "$reason")" "$(quoted "$*")" "$(json_list environment)" "$(json_list missing)" "$present" \
      > "$REBUILDERD_RESULT"
  fi
  exit "$code"
}
quoted() { if [ -n "$1" ]; then printf '"%s"' "${1//[\"\\]/}"; else printf null; fi; }
# Lines were checked against a pattern without quotes.
json_list() { [ ! -e "$work/$1" ] || awk '{ printf "%s\"%s\"", (NR > 1 ? "," : ""), $0 }' "$work/$1"; }

# Run by hand we may be in the machine's own namespaces: then first into new ones, so that no mount outlives us.
own_namespaces() {
  [ -z "${REBUILDERD_ISOLATED-}${REBUILDERD_OWN_NAMESPACES-}" ] || return 0
  local base=(--mount --pid --fork --kill-child --propagation private --mount-proc) kind
  export REBUILDERD_OWN_NAMESPACES=1
  for kind in '' '--user --map-root-user --map-auto' '--user --map-root-user'; do
    # shellcheck disable=SC2086
    if unshare "${base[@]}" $kind true 2>/dev/null; then exec unshare "${base[@]}" $kind /bin/bash "$0" "$@"; fi
  done
  export REBUILDERD_OWN_NAMESPACES=impossible
}

start() {
  input=$(realpath "$1")
  outdir=$(realpath "${REBUILDERD_OUTDIR:?}")
  cache=${REBUILDERD_CACHE:-/var/tmp/rebuilderd-cache-$(id -u)}
  mkdir -p "$cache"
  cache=$(realpath "$cache")
  work=$(mktemp -d "${TMPDIR:-/var/tmp}/rebuild.XXXXXX")
  present=false
  incomplete='' # true: not every archive gave its package lists
  mounted=''
  trap tidy EXIT
  trap 'exit 143' TERM INT HUP
}

tidy() { # [FOLDER]...: what else to remove
  local code=$?
  set +e
  cd /
  [ -z "$mounted" ] || umount "$mounted" || umount -l "$mounted"
  rm -rf "$work" "$@"
  exit "$code"
}

# --- the input ---------------------------------------------------------------------------------------------

# field FILE NAME: the value of a field, continuation lines without their first blank, `.` lines empty.
field() {
  awk -v wanted="$2:" '
    tolower($1) == tolower(wanted) { on = 1; sub(/^[^:]*:[ \t]*/, ""); if ($0 != "") print; next }
    /^[^ \t]/ { on = 0 }
    on { sub(/^[ \t]/, ""); if ($0 == ".") $0 = ""; print }' "$1"
}

# Only what the signature covers, if there is one; whether it is good was for the server to check. Fails where there
# is text before it.
without_armour() {
  awk '
    /^-----BEGIN PGP SIGNED MESSAGE-----/ { if (before) exit 1; signed = 1; header = 1; next }
    header { if ($0 ~ /^[ \t\r]*$/) header = 0; next }
    /^-----BEGIN PGP SIGNATURE-----/ { exit }
    signed { sub(/^- /, "") }
    { sub(/\r$/, ""); if ($0 != "") before = !signed; print }' "$1"
}


read_input() {
  [ "$(stat -c %s "$input")" -le 20000000 ] || finish 2 input_invalid 'the input is larger than 20 MB'
  without_armour "$input" > "$work/input" || finish 2 input_invalid 'the input has text before what is signed'
  case $input in
    *.buildinfo) kind=buildinfo ;;
    *.dsc) kind=dsc ;;
    *) finish 2 input_invalid 'the input is neither a .buildinfo nor a .dsc' ;;
  esac
  local text
  text=$(field "$work/input" Source | head -n 1)
  source=${text%% *}
  version=$(field "$work/input" Version | head -n 1)
  source_version=$(sed -E 's/\+b[0-9]+$//' <<< "$version") # rebuilds without changes share the source
  if [[ $text =~ ^[^\ ]+\ \((.*)\)$ ]]; then source_version=${BASH_REMATCH[1]}; fi
  matches "$source" "$name_pattern" || finish 2 input_invalid 'the input has an odd Source field'
  matches "$version" "$version_pattern" || finish 2 input_invalid 'the input has an odd Version field'
  matches "$source_version" "$version_pattern" || finish 2 input_invalid 'the input has an odd source version'
  machine=$(dpkg --print-architecture)
  release=${REBUILDERD_RELEASE-}
  # shellcheck disable=SC1091
  [ -n "$release" ] || release=$(. /etc/os-release && echo "${VERSION_CODENAME:-stable}")
  matches "$release" '[a-z][a-z0-9./_-]*' || finish 2 input_invalid 'the release has an odd name'
  upstream=${source_version#*:}
  [[ $upstream != *-* ]] || upstream=${upstream%-*}
  "read_$kind"
  matches "$path" '(/[A-Za-z0-9+._~-]+){2,}' || finish 2 input_invalid 'the input has an odd Build-Path'
  [[ $path != */../* && $path != */./* && $path != */.. && $path != */. ]] || finish 2 input_invalid 'the Build-Path has dots'
  parent=${path%/*}
}

read_buildinfo() {
  local architectures line
  architectures=" $(field "$work/input" Architecture | tr '\n' ' ') "
  path=$(field "$work/input" Build-Path | head -n 1)
  path=${path:-/build/reproducible-path/$source-$upstream}
  line=$(field "$work/input" Build-Architecture | head -n 1)
  matches "$line" '[a-z0-9-]+' || finish 2 input_invalid 'the input has an odd Build-Architecture'
  [ "$line" = "$machine" ] || finish 3 environment_unavailable "this was built on $line, this machine is $machine"
  what=any
  if [[ $architectures = *' all '* ]]; then
    what=all
    [ -z "$(tr ' ' '\n' <<< "$architectures" | grep -vE '^(all|source|)$')" ] || what=binary
  fi
  field "$work/input" Installed-Build-Depends | sed -E 's/^ *//; s/ *,? *$//; s/ \(= (.*)\)$/=\1/' | grep . |
    sort -u > "$work/recorded" || finish 2 input_invalid 'the input records no Installed-Build-Depends'
  grep -vxE "$name_pattern(:[a-z0-9-]+)?=$version_pattern" "$work/recorded" > "$work/odd" &&
    finish 2 input_invalid 'the input has odd Installed-Build-Depends'
  mv "$work/recorded" "$work/environment"
  line=$(wanted_among "$work/environment")
  [ -z "$line" ] || finish 2 input_invalid "$line is to be rebuilt and part of its own recorded environment"
  field "$work/input" Environment | sed -nE 's/^ *([A-Z_0-9]+)="([^"\\]*)"$/\1=\2/p' |
    grep -E '^(DEB_[A-Z_]+|LANG|LANGUAGE|LC_[A-Z]+|TZ|SOURCE_DATE_EPOCH|(C|CPP|CXX|OBJC|OBJCXX|F|FC|GCJ|LD)FLAGS)=' \
      > "$work/variables" || :
  field "$work/input" Binary-Only-Changes | sed '1{/^$/d}' > "$work/changes"
}

# The first of the wanted packages that is among installed ones: a build could make a copy of what is installed there.
wanted_among() { # FILE: lines of name=version
  awk '
    function want(file, part) {
      gsub(/%2[Bb]/, "+", file); gsub(/%7[Ee]/, "~", file); gsub(/%3[Aa]/, ":", file)
      if (split(file, part, "_") != 3 || part[3] !~ /^[a-z0-9-]+\.u?deb$/) return
      sub(/^[0-9]+:/, "", part[2])
      wanted[part[1] "=" part[2]] = 1
    }
    BEGIN { count = split(ENVIRON["REBUILDERD_ARTIFACTS"], files, "\n"); for (i = 1; i <= count; i++) want(files[i]) }
    NR == FNR { if (NF == 3) want($3); next }
    { name = $0; sub(/:[a-z0-9-]+=/, "=", name); sub(/=[0-9]+:/, "=", name) }
    name in wanted { print name; exit }' "$work/input" "$1"
}

read_dsc() {
  path=/build/reproducible-path/$source-$upstream
  : > "$work/variables"
  : > "$work/changes"
  local wanted=${REBUILDERD_ARTIFACTS-} made
  if [ -z "$wanted" ]; then # then all that the source makes for us: a name for each architecture
    made=$(field "$work/input" Architecture | tr -s ' \n' '\n\n')
    [ "${REBUILDERD_ARCHITECTURE-}" != all ] || made=all
    wanted=$(sed -n 's/.\+/_&.deb/p' <<< "$made")
  fi
  what=binary
  grep -qE '_all\.u?deb$' <<< "$wanted" || what=any
  grep -qvE '_all\.u?deb$' <<< "$wanted" || what=all
  grep -qE '\+b[0-9]+_[a-z0-9-]+\.u?deb$' <<< "$wanted" && [[ ! $version =~ \+b[0-9]+$ ]] &&
    finish 3 environment_unavailable 'a binary-only upload needs its .buildinfo, the .dsc lacks its changelog entry'
  return 0
}

# --- apt: a state of its own, signatures checked, nothing of this machine's -------------------------------------

apt_lines() {
  if [ -n "${REBUILDERD_BACKEND_SOURCES-}" ]; then
    printf '%s\n' "$REBUILDERD_BACKEND_SOURCES"
  else
    machine_lines
  fi
  printf '%s\n' "${REBUILDERD_BACKEND_SNAPSHOT-}"
}

# This machine's own archive, for the wanted suite; third parties' archives serve no suite of ours.
machine_lines() {
  local own archive suite component keyring=/usr/share/keyrings/debian-archive-keyring.gpg
  # shellcheck disable=SC1091
  own=$(. /etc/os-release && echo "${VERSION_CODENAME:-stable}")
  # Without its caches: where they are out of date apt would write them anew, which takes more room than there is here.
  # shellcheck disable=SC2016
  apt-get -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache= indextargets --format '$(REPO_URI)|$(RELEASE)|$(COMPONENT)' 'Created-By: Packages' 2>/dev/null | sort -u |
    while IFS='|' read -r archive suite component; do
      case $suite in
        "$release" | "$release"-* | "$release"/*) ;;
        "$own" | "$own"-updates | "$own"-security) suite=$release${suite#"$own"} ;;
        *) continue ;;
      esac
      [[ $suite != sid-* && $suite != unstable-* ]] || continue
      printf 'deb [signed-by=%s] %s %s %s\n' "$keyring" "$archive" "$suite" "$component"
      printf 'deb-src [signed-by=%s] %s %s %s\n' "$keyring" "$archive" "$suite" "$component"
    done
}

apt_start() {
  apt_lines | grep -E '^deb(-src)? ' | sort -u > "$work/sources.list" ||
    finish 3 environment_unavailable "no apt sources for $release: name them in the backend's setting sources"
  lists=$cache/apt/$(sha256sum < "$work/sources.list" | cut -c1-24)
  mkdir -p "$lists/lists/partial" "$lists/archives/partial"
  apt_options=(
    -q
    -o "Dir::Etc::SourceList=$work/sources.list" -o Dir::Etc::SourceParts=/dev/null
    -o "Dir::State=$lists" -o "Dir::State::Lists=$lists/lists" -o Dir::State::status=/dev/null
    -o "Dir::Cache=$lists" -o "Dir::Cache::archives=$lists/archives"
    -o Dir::Cache::pkgcache=pkgcache.bin -o Dir::Cache::srcpkgcache=srcpkgcache.bin
    -o "APT::Architectures=$machine" -o APT::Sandbox::User=root -o Acquire::Languages=none
    -o Acquire::Check-Valid-Until=false -o Acquire::Retries=3
  )
}

# apt_update SECONDS: fetch the lists unless they are younger than that.
apt_update() {
  exec 7> "$lists/lock"
  flock 7
  if [ -z "$(find "$lists/fresh" -newermt "-$1 seconds" 2>/dev/null)" ]; then
    # A release that has become old stable since is still the one we want.
    apt-get "${apt_options[@]}" -o Debug::NoLocking=1 --allow-releaseinfo-change update 2>&1 | tee "$work/update.log" ||
      finish 3 environment_unavailable 'the package lists could not be fetched'
    # For apt an archive that does not answer is worth no more than a warning.
    if grep -q '^W: Some index files failed to download' "$work/update.log"; then
      incomplete=true
    else
      incomplete=''
      touch "$lists/fresh"
    fi
  fi
  flock -s 7 # nobody may change them while we read
}
apt_done() { flock -u 7; }

# --- the source package ----------------------------------------------------------------------------------------

# With apt's own downloader, which would follow redirects to wherever they lead, and service records of the name, too.
fetch_step() { # URL FILE [SHA256]
  local helper=(/usr/lib/apt/apt-helper -q -o APT::Sandbox::User=root -o Acquire::EnableSrvRecords=false) within=()
  pin
  bounded "${helper[@]}" -o Acquire::http::AllowRedirect=false -o Acquire::https::AllowRedirect=false \
    -o Debug::Acquire::http=true -o Debug::Acquire::https=true \
    download-file "$1" "$2" ${3:+"SHA256:$3"} > "$work/fetch.log" 2>&1 && return 0
  target=$(sed -nE 's/^[Ll]ocation:[ \t]*([^ \t\r]+)[ \t\r]*$/\1/p' "$work/fetch.log" | tail -n 1)
  [[ $1 =~ ^[a-z]+://[^/?#]* ]] || return 1
  case $target in
    //*) target=${1%%:*}:$target ;;
    /*) target=${BASH_REMATCH[0]}$target ;;
  esac
  return 1
}

# It looks the name up once more: in a place where that leads to the addresses that were looked at, whatever the name
# leads to a moment later. One without any is for a proxy to look up, and leads nowhere here. Without namespaces there
# is no such place.
pin() {
  local plan=$work/nsswitch.conf
  [[ $host =~ [^0-9.] && $host != *:* && -e /etc/hosts && -e /etc/nsswitch.conf ]] || return 0
  [ "${REBUILDERD_OWN_NAMESPACES-}" != impossible ] || return 0
  { printf "%s $host\n" "${addresses[@]:-255.255.255.255}"; cat /etc/hosts; } > "$work/hosts"
  sed -E '/^hosts:/ { s/[[:space:]]files([[:space:]]|$)/ /; s/^hosts:/hosts: files/ }' /etc/nsswitch.conf > "$plan"
  within=(perl "$here/sandbox.pl" --network --bind "$work" "$work" --read "$work/hosts" /etc/hosts
    --read "$plan" /etc/nsswitch.conf --)
}

# Beside the input, else from the archives. Source files are taken by their hash: that of the .dsc from the input,
# if it names one, those of the rest from the .dsc.
get_source() {
  mkdir -p "$work/source"
  dsc=${source}_${source_version#*:}.dsc
  if [ "$kind" = dsc ]; then
    dsc_hash=$(sha256sum < "$input" | cut -d' ' -f1)
  else
    dsc_hash=$(sha256_of "$work/input" "$dsc")
  fi
  if source_beside || source_from_apt; then return; fi
  finish 4 source_unavailable "the source package $source $source_version could not be fetched"
}

sha256_of() { # FILE NAME
  field "$1" Checksums-Sha256 | awk -v name="$2" 'NF == 3 && $3 == name && $1 ~ /^[0-9a-f]{64}$/ { print $1; exit }'
}

beside() { # NAME [SHA256]
  local url=${REBUILDERD_INPUT_URL-} near name=${1//+/%2b}
  near=$(dirname "$input")/$1
  if [ -f "$near" ] && { [ -z "${2-}" ] || [ "$(sha256sum < "$near")" = "$2  -" ]; }; then
    cp "$near" "$work/source/$1"
  else
    [[ $url =~ ^(https?|file):/ ]] && fetch "${url%/*}/${name//\~/%7e}" "$work/source/$1" "${2-}"
  fi
}

source_beside() {
  rm -f "$work/source/"*
  if [ "$kind" = dsc ]; then cp "$input" "$work/source/$dsc"; else beside "$dsc" "$dsc_hash" || return 1; fi
  without_armour "$work/source/$dsc" > "$work/dsc" || finish 2 input_invalid 'the .dsc has text before what is signed'
  local hash size name count=0
  while read -r hash size name; do
    matches "$name" '[A-Za-z0-9][A-Za-z0-9._+~-]*' && matches "$hash" '[0-9a-f]{64}' ||
      finish 2 input_invalid 'the .dsc names an odd file'
    beside "$name" "$hash" || return 1
    count=$((count + 1))
  done < <(field "$work/dsc" Checksums-Sha256 | awk 'NF == 3')
  [ "$count" -gt 0 ]
}

source_from_apt() {
  apt_start
  local age
  for age in 1800 0; do
    apt_update "$age"
    rm -f "$work/source/"*
    if (cd "$work/source" && apt-get "${apt_options[@]}" --only-source source --download-only "$source=$source_version"); then
      dsc=$(cd "$work/source" && echo *.dsc)
      apt_done
      [ -z "$dsc_hash" ] || [ "$(sha256sum < "$work/source/$dsc" | cut -d' ' -f1)" = "$dsc_hash" ] ||
        finish 4 source_unavailable 'the archive has another source package under this name and version'
      return 0
    fi
  done
  apt_done
  return 1
}

# --- what both ways of building do -------------------------------------------------------------------------------

# Runs in the build's sandbox as the unprivileged builder, at the folder that was given.
unpack_script='
set -eu
cd "$1"
dpkg-source --no-check --extract "$2" "$3"
if [ -s .changes ]; then
  { cat .changes; echo; cat "$3/debian/changelog"; } > .changelog
  cat .changelog > "$3/debian/changelog"
fi
rm -f .changes .changelog'

prepare_folder() { # FOLDER: what the builder finds in it
  cp "$work/source/"* "$1/"
  if [ -s "$work/changes" ]; then
    # deb-changelog(5): an entry, an empty line, the next entry
    sed -e '/./,$!d' "$work/changes" > "$1/.changes"
  fi
  chown -R "$builder:$builder" "$1" 2>/dev/null || : # in a user namespace of one id everybody is the builder
}

# build COMMAND...: unpacks and builds with the sandbox (and its options) given.
build() {
  local variables code=0 options
  mapfile -t variables < "$work/variables"
  options=$(sed -n 's/^DEB_BUILD_OPTIONS=//p' "$work/variables")
  [[ $options = *parallel=* ]] || options="$options parallel=$(nproc)"
  options="$options ${REBUILDERD_BACKEND_BUILD_OPTIONS-}"
  local clean=(env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/nonexistent
    USER=builder LOGNAME=builder SHELL=/bin/sh TERM=dumb LC_ALL=C.UTF-8)
  "$@" --user "$builder" --directory "$parent" -- \
    "${clean[@]}" /bin/sh -c "umask 022; $unpack_script" unpack "$parent" "$dsc" "$path" || code=$?
  case $code in
    0) ;;
    125) finish 5 backend_error 'the sandbox for the build cannot be made' ;;
    *) finish 1 build_failed 'the source package cannot be unpacked' ;;
  esac
  say "building $source $version (--build=$what) at $path"
  "$@" --user "$builder" --directory "$path" -- \
    "${clean[@]}" "${variables[@]}" "DEB_BUILD_OPTIONS=${options# }" \
    /bin/sh -c 'umask 022; exec nice dpkg-buildpackage "$@"' build -us -uc "--build=$what" $checks || code=$?
  case $code in
    0) ;;
    125) finish 5 backend_error 'the sandbox for the build cannot be made' ;;
    *) finish 1 '' "dpkg-buildpackage ended with $code" ;;
  esac
}

# Every process of the build is gone by now; links and devices stay where they are.
collect() { # FOLDER
  local count
  find "$1" -maxdepth 1 -type f \( -name '*.deb' -o -name '*.udeb' -o -name '*.buildinfo' \) \
    -exec cp --no-preserve=ownership,mode -t "$outdir" {} +
  count=$(find "$outdir" -maxdepth 1 -type f -name '*.*deb' | wc -l)
  [ "$count" -gt 0 ] || finish 1 build_failed 'the build ended well but made no package'
  (cd "$outdir" && sha256sum -- *.*deb)
}

# --- with the packages of this machine -----------------------------------------------------------------------------

host_fits() {
  local own
  [ "${REBUILDERD_BACKEND_HOST-true}" != false ] || return 1
  # shellcheck disable=SC2016
  dpkg-query -W -f '${db:Status-Status} ${Package}=${Version}\n${db:Status-Status} ${Package}:${Architecture}=${Version}\n' |
    sed -n 's/^installed //p' | sort -u > "$work/installed"
  [ -z "$(comm -23 "$work/environment" "$work/installed")" ] || return 1
  own=$(wanted_among "$work/installed")
  [ -z "$own" ] || { say "not with the packages of this machine: $own is one of them"; return 1; }
}

build_on_host() {
  say "all $(wc -l < "$work/environment") recorded packages are installed here in the recorded version"
  get_source
  mkdir "$work/build"
  prepare_folder "$work/build"
  cp /etc/passwd /etc/group "$work/"
  grep -q "^[^:]*:[^:]*:$builder:" "$work/passwd" ||
    echo "builder:x:$builder:$builder::/nonexistent:/bin/sh" >> "$work/passwd"
  grep -q "^[^:]*:[^:]*:$builder:" "$work/group" || echo "builder:x:$builder:" >> "$work/group"
  checks=-d # the record tells what was there, and it is there
  if [ "${REBUILDERD_OWN_NAMESPACES-}" = impossible ]; then
    build_unguarded
  else
    build perl "$here/sandbox.pl" --bind "$work/build" "$parent" \
      --read "$work/passwd" /etc/passwd --read "$work/group" /etc/group
    collect "$work/build"
  fi
  local more=$(($(wc -l < "$work/installed") / 2 - $(wc -l < "$work/environment"))) # each is listed under two names
  finish 0 '' "built with the packages of this machine, which has $more more than were recorded"
}

# Where no namespaces can be had: right at the Build-Path, which must be free. One job after the other, as the
# Build-Paths of most packages are in one folder.
build_unguarded() {
  exec 6> "$cache/unguarded.lock"
  flock 6
  [ ! -e "$parent" ] || finish 5 backend_error "without namespaces $parent must not exist"
  existing=$parent
  while [ ! -d "${existing%/*}/" ]; do existing=${existing%/*}; done
  mkdir -p "$parent" || finish 5 backend_error "without namespaces $parent must be ours to make"
  cp -a "$work/build/." "$parent/"
  chown "$builder:$builder" "$parent" 2>/dev/null || :
  trap 'tidy "$existing"' EXIT
  build plainly
  collect "$parent"
  rm -rf "$existing"
}

plainly() { # takes the sandbox's options, as far as they are ours
  local user=$2 directory=$4
  shift 5
  if [ "$(id -u)" = 0 ]; then set -- setpriv "--reuid=$user" "--regid=$user" --clear-groups --no-new-privs "$@"; fi
  (cd "$directory" && "$@")
}

# --- with a build root ----------------------------------------------------------------------------------------------

# root_for KEY DAYS MAKER: `$root` is then a root made by MAKER, shared with other jobs, and stays while we run.
root_for() {
  local key=$1 days=$2 maker=$3 roots=$cache/roots code
  mkdir -p "$roots"
  unfinished "$roots" "$key"
  root=$roots/$key/root
  exec 8> "$roots/$key.lock"
  flock -s 8
  if ! usable "$roots/$key" "$days"; then
    flock -n 8 || { say 'another job is using or making this build root, waiting'; flock 8; }
    if ! usable "$roots/$key" "$days"; then
      shrink "$roots" "$key"
      rm -rf "${roots:?}/$key" "$roots/$key.new"
      mkdir "$roots/$key.new"
      "$maker" "$roots/$key.new/root" || { code=$?; rm -rf "$roots/$key.new"; return "$code"; }
      du -sxB1 "$roots/$key.new/root" | cut -f1 > "$roots/$key.new/size"
      touch "$roots/$key.new/complete"
      mv "$roots/$key.new" "$roots/$key"
    fi
    flock -s 8
  fi
  touch "$roots/$key/used"
}

usable() { # FOLDER DAYS: 0 days: for ever
  [ -e "$1/complete" ] || return 1
  [ "$2" = 0 ] || [ -n "$(find "$1/complete" -mtime "-$2")" ]
}

# Roots whose maker was killed go; one that is being made is locked.
unfinished() { # ROOTS KEY
  local folder key
  for folder in "$1"/*.new; do
    key=${folder##*/}
    key=${key%.new}
    [ ! -d "$folder" ] || [ "$key" = "$2" ] || flock -n "$1/$key.lock" rm -rf "$folder" || :
  done
}

# Least recently used roots go first; a root in use is locked and stays.
shrink() { # ROOTS KEY
  local bound=${REBUILDERD_BACKEND_CACHE_BYTES:-20000000000} total=0 size folder
  while read -r folder; do
    size=$(cat "$1/$folder/size")
    total=$((total + size))
    [ "$total" -gt "$bound" ] || continue
    say "removing the build root $folder to stay below $bound bytes"
    flock -n "$1/$folder.lock" rm -rf "${1:?}/$folder" || :
  done < <(cd "$1" && find . -mindepth 2 -maxdepth 2 -name used -printf '%T@ %h\n' | sort -rn | sed 's|.* \./||')
}

# Files of a build root have more than one owner (user_namespaces(7)).
has_ids() { awk '{ ids += $3 } END { exit ids < 1000 }' /proc/self/uid_map; }

make_root() { # TARGET OPTION...
  has_ids || finish 5 backend_error 'build roots need root, or a range of ids for this user in /etc/subuid and /etc/subgid'
  apt_start
  local target=$1 hooks=(--hook-dir=/usr/share/mmdebstrap/hooks/maybe-merged-usr)
  shift
  command -v mmdebstrap > /dev/null || finish 5 backend_error 'mmdebstrap is missing: apt-get install mmdebstrap'
  grep '^deb ' "$work/sources.list" > "$work/deb.list"
  ! grep -qE ' (file|copy):' "$work/deb.list" || hooks+=(--hook-dir=/usr/share/mmdebstrap/hooks/file-mirror-automount)
  mmdebstrap --mode=root "${hooks[@]}" "$@" \
    --aptopt='Acquire::Check-Valid-Until "false"' --aptopt='APT::Install-Recommends "false"' \
    --aptopt='Acquire::Languages "none"' --aptopt='APT::Sandbox::User "root"' --dpkgopt=force-unsafe-io \
    "$release" "$target" "$work/deb.list" < /dev/null 2>&1 | tee "$work/root.log"
}

make_exact_root() {
  [ -e "$work/include" ] || cp "$work/environment" "$work/include"
  make_root "$1" --variant=custom --aptopt='APT::Get::allow-downgrades "true"' \
    --include="$(paste -sd, "$work/include")"
}

make_present_root() {
  make_root "$1" --variant=apt --include=build-essential,fakeroot,debhelper --skip=cleanup/apt/lists
}

# find_missing SECONDS...: recorded versions that no line offers, into `missing`. Lists of that age will do, and where
# something is missing in them those of the next age.
find_missing() {
  local names age
  mapfile -t names < <({ sed 's/[:=].*//' "$work/environment"; echo fakeroot; } | sort -u)
  for age; do
    apt_update "$age"
    apt-cache "${apt_options[@]}" madison "${names[@]}" 2>/dev/null |
      awk -F' *[|] *' '$3 !~ / Sources$/ { sub(/^ */, "", $1); print $1 "=" $2 }' | sort -u > "$work/offered"
    sed 's/:[a-z0-9-]*=/=/' "$work/environment" | sort -u | comm -23 - "$work/offered" > "$work/missing"
    [ -s "$work/missing" ] || break
  done
  apt_done
}

# Another distribution may have other packages under the same names and versions.
build_in_exact_root() {
  local key
  key=$({ cat "$work/environment"; printf '%s\n' "$machine" "${REBUILDERD_BACKEND_SOURCES-}" "${REBUILDERD_BACKEND_SNAPSHOT-}"; } |
    sha256sum | cut -c1-32)
  if ! usable "$cache/roots/$key" 0; then
    apt_start
    find_missing 1800 0
    [ ! -s "$work/missing" ] || without_missing
    cp "$work/environment" "$work/include"
    # fakeroot is no build dependency, yet some packages cannot be built by an ordinary user without it
    grep -q '^fakeroot[:=]' "$work/include" || ! grep -q '^fakeroot=' "$work/offered" || echo fakeroot >> "$work/include"
  fi
  get_source
  root_for "$key" 0 make_exact_root || without_root $?
  say "build root of $(wc -l < "$work/environment") recorded packages"
  checks=-d
  enter_root
  build_in_root
}

# What says nothing of the packages.
our_trouble() { # how mmdebstrap ended
  [ "$1" -le 128 ] || finish 5 backend_error 'mmdebstrap was killed while it made the build root'
  ! grep -q 'No space left on device' "$work/root.log" || finish 5 no_space 'no space was left for the build root'
}

undelivered() {
  ! grep -qE '^[EW]: (Failed to fetch |Unable to fetch some archives|Some index files failed)' "$work/root.log" ||
    finish 3 environment_unavailable 'an archive did not deliver what it lists: the log has its answers'
}

# The lists may be older than the archive, which keeps no version for ever.
without_root() { # how mmdebstrap ended
  our_trouble "$1"
  find_missing 0
  [ ! -s "$work/missing" ] || without_missing
  undelivered
  finish 3 environment_unavailable 'the recorded packages cannot be installed together'
}

without_missing() {
  local count
  count=$(wc -l < "$work/missing")
  say "$count recorded versions are in none of the archives:"
  cat "$work/missing"
  [ "${REBUILDERD_BACKEND_PRESENT_TOOLCHAIN-}" != true ] || build_in_present_root
  if [ -n "$incomplete" ]; then
    rm "$work/missing" # who knows
    finish 3 environment_unavailable "not every archive gave its package lists, and the others lack $count recorded versions"
  fi
  finish 3 environment_unavailable "$count recorded versions are nowhere to be had"
}

without_present_root() { # how mmdebstrap ended
  our_trouble "$1"
  undelivered
  finish 3 environment_unavailable "no build root of $release can be made"
}

build_in_present_root() {
  present=true
  apt_start
  get_source
  say "building with the present toolchain of $release"
  root_for "$({ cat "$work/sources.list"; echo "present $release $machine"; } | sha256sum | cut -c1-32)" 7 make_present_root ||
    without_present_root $?
  checks=
  enter_root
  has_dependencies || install_dependencies
  # shellcheck disable=SC2016
  chroot "$mounted" dpkg-query -W -f '${db:Status-Status} ${Package}=${Version}\n' | sed -n 's/^installed //p' |
    sort -u > "$work/environment"
  build_in_root
}

# A writable layer over the root, or a copy of it where layers cannot be mounted.
enter_root() {
  mkdir "$work/upper" "$work/layer" "$work/root"
  local layers="lowerdir=$root,upperdir=$work/upper,workdir=$work/layer" extra
  for extra in ,volatile ,userxattr ''; do
    if mount -t overlay overlay -o "$layers$extra" "$work/root" 2>/dev/null; then
      mounted=$work/root
      break
    fi
  done
  [ -n "$mounted" ] || cp -a --reflink=auto "$root/." "$work/root/"
  top=$work/root
  grep -q '^builder:' "$top/etc/passwd" || echo "builder:x:$builder:$builder::/nonexistent:/bin/sh" >> "$top/etc/passwd"
  grep -q '^builder:' "$top/etc/group" || echo "builder:x:$builder:" >> "$top/etc/group"
}

has_dependencies() {
  local ignored=()
  case $what in all) ignored=(-A) ;; any) ignored=(-B) ;; esac
  without_armour "$work/source/$dsc" > "$top/tmp/needs"
  perl "$here/sandbox.pl" --root "$top" -- env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 \
    dpkg-checkbuilddeps "${ignored[@]}" /tmp/needs > "$work/unmet" 2>&1
}

install_dependencies() {
  local only=() keyring inside
  case $what in all) only=(--indep-only) ;; any) only=(--arch-only) ;; esac
  cp "$work/sources.list" "$top/etc/apt/sources.list"
  rm -rf "$top/etc/apt/sources.list.d"
  sed -nE 's/.*signed-by=([^] ]+).*/\1/p' "$work/sources.list" | tr ',' '\n' | sort -u | while read -r keyring; do
    [[ $keyring != /* ]] || { mkdir -p "$top$(dirname "$keyring")"; cp "$keyring" "$top$keyring"; }
  done
  cp --remove-destination -L /etc/resolv.conf /etc/hosts "$top/etc/" 2>/dev/null || :
  apt-config dump | grep -E '^Acquire::(http|https|ftp)::Proxy' > "$top/etc/apt/apt.conf.d/99proxy" || :
  printf '#!/bin/sh\nexit 101\n' > "$top/usr/sbin/policy-rc.d" # no daemons
  chmod 755 "$top/usr/sbin/policy-rc.d"
  mkdir -p "$top/build-dep"
  cp "$work/source/$dsc" "$top/build-dep/"
  inside=(perl "$here/sandbox.pl" --root "$top" --network -- env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin
    LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive TERM=dumb apt-get -q -o APT::Sandbox::User=root
    -o Acquire::Check-Valid-Until=false -o Acquire::Languages=none -o Acquire::Retries=3
    -o Dpkg::Options::=--force-unsafe-io -y --no-install-recommends)
  "${inside[@]}" "${only[@]}" build-dep "/build-dep/$dsc" ||
    { "${inside[@]}" update && "${inside[@]}" "${only[@]}" build-dep "/build-dep/$dsc"; } ||
    finish 3 environment_unavailable 'the build dependencies cannot be installed'
  rm -rf "$top/build-dep" "$top/usr/sbin/policy-rc.d"
}

build_in_root() {
  mkdir -p "$top$parent"
  mkdir "$work/build"
  prepare_folder "$work/build"
  build perl "$here/sandbox.pl" --root "$top" --bind "$work/build" "$parent"
  collect "$work/build"
  local note=''
  if [ "$present" = true ]; then
    note=$(wanted_among "$work/environment")
    note="built with the present toolchain of $release${note:+, of which $note is a part}"
  fi
  finish 0 '' "$note"
}

own_namespaces "$@"
start "$@"
read_input
if [ "$kind" = dsc ]; then
  build_in_present_root
elif host_fits; then
  build_on_host
else
  build_in_exact_root
fi
