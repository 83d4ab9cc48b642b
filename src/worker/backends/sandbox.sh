#!/bin/bash
# Runs a command in namespaces of its own, where nothing of this machine is seen but what is named here.
#
#   sandbox.sh [OPTION]... -- COMMAND [ARGUMENT]...
#
#   --user-namespace KIND  none: as root; auto: our user and its range in /etc/subuid; single: our user alone
#   --root DIR             use this tree as the root, writable; without it: the programs of this machine, read-only
#   --bind SOURCE TARGET   SOURCE is seen at TARGET and may be written
#   --read SOURCE TARGET   SOURCE is seen at TARGET and may be read
#   --hide DIR             an empty folder is seen there, for what lies below the machine's system folders
#   --user ID              run the command with this user and group id and without any rights of root
#   --network              leave the network on; without it there is only a loopback interface
#   --processes N          at most N processes and threads (needs a user namespace or --user)
#   --directory DIR        working directory
#
# Needs bash, util-linux and coreutils. Everything is gone when the command ends: processes, mounts, namespaces.
set -euo pipefail
umask 022

parse() {
  root='' user='' network='' processes='' directory=/ kind=none
  sources=() modes=() binds=() targets=() hidden=() seen=() # binds, hidden and root are places in sources
  while [ $# -gt 0 ]; do
    case $1 in
      --user-namespace) kind=$2; shift 2 ;;
      --root) root=${#sources[@]}; sources+=("$2"); shift 2 ;;
      --bind) modes+=(rw); binds+=("${#sources[@]}"); sources+=("$2"); targets+=("$3"); shift 3 ;;
      --read) modes+=(ro); binds+=("${#sources[@]}"); sources+=("$2"); targets+=("$3"); shift 3 ;;
      --hide) hidden+=("${#sources[@]}"); sources+=("$2"); shift 2 ;;
      --user) user=$2; shift 2 ;;
      --network) network=yes; shift ;;
      --processes) processes=$2; shift 2 ;;
      --directory) directory=$2; shift 2 ;;
      --) shift; command=("$@"); return ;;
      *) echo "sandbox: unknown option $1" >&2; exit 125 ;;
    esac
  done
  echo 'sandbox: no command' >&2
  exit 125
}

# The outer half: enter the namespaces, then run the inner half in them as process 1.
enter() {
  local flags=(--mount --pid --ipc --uts --fork --kill-child --propagation private)
  [ -n "$network" ] || flags+=(--net)
  case $kind in
    none) ;;
    auto) flags+=(--user --map-root-user --map-auto) ;;
    single) flags+=(--user --map-root-user) ;;
    *) echo "sandbox: unknown kind of user namespace $kind" >&2; exit 125 ;;
  esac
  exec unshare "${flags[@]}" -- /bin/bash "$(realpath "$0")" --inside "$@"
}

# The machine's programs, seen read-only in an empty root on which nothing else is.
host_root() {
  local name links=() table=''
  mount -t tmpfs -o mode=755,size=64m root /tmp
  cd /tmp
  for name in bin sbin lib lib32 lib64 libx32 usr etc opt var/lib/dpkg var/lib/apt var/lib/pacman var/lib/rpm; do
    if [ -L "/$name" ]; then links+=("/$name"); elif [ -d "/$name" ]; then seen+=("/$name"); fi
  done
  mkdir -p old proc dev run sys mnt root home build "${seen[@]/#//tmp}"
  mkdir -m 1777 tmp var/tmp
  [ ${#links[@]} = 0 ] || cp -P "${links[@]}" .
  for name in "${seen[@]}"; do table+="$name /tmp$name none rbind,ro 0 0"$'\n'; done
  echo "$table" > run/mounts
  mount -a -T run/mounts 2> /dev/null || see_one_by_one
}

# Flags of a mount that are locked, as in user namespaces, stand in the way of doing it at one go.
see_one_by_one() {
  local name
  for name in "${seen[@]}"; do
    mount --rbind "$name" "/tmp$name"
  done
}

# Every mount at or below a folder, so that what is mounted inside it is read-only too.
read_only() {
  local target options
  while read -r _ _ _ _ target options _; do
    printf -v target %b "$target"
    [[ $target = "$1" || $target = "$1"/* ]] || continue
    [[ $options != ro* ]] || continue
    options=${options#rw} # the other flags must stay: in a user namespace they are locked
    mount -o "remount,bind,ro$options" "$target" 2>/dev/null || umount -l "$target"
  done < /proc/self/mountinfo
}

# $1 is the new root, $table what to mount in one go.
devices() {
  local name
  mount -t tmpfs -o mode=755,size=1m,nosuid devices "$1/dev"
  mkdir "$1/dev/pts" "$1/dev/shm"
  ln -s /proc/self/fd "$1/dev/fd"
  ln -s fd/0 "$1/dev/stdin"
  ln -s fd/1 "$1/dev/stdout"
  ln -s fd/2 "$1/dev/stderr"
  ln -s pts/ptmx "$1/dev/ptmx"
  for name in null zero full random urandom tty; do
    : > "$1/dev/$name"
    table+="/old/dev/$name $1/dev/$name none bind 0 0"$'\n'
  done
  table+="terminals $1/dev/pts devpts newinstance,ptmxmode=666,mode=620 0 0"$'\n'
  table+="memory $1/dev/shm tmpfs mode=1777,nosuid,nodev 0 0"$'\n'
}

# SOURCE is below /old by now.
folders() {
  local i source
  for i in "${!binds[@]}"; do
    source=/old${sources[binds[i]]}
    [ ! -d "$source" ] || table+="$(escaped "$source") $(escaped "$1${targets[i]}") none rbind,X-mount.mkdir 0 0"$'\n'
  done
}

escaped() { # fstab(5)
  local text=${1//\\/\\134}
  text=${text// /\\040}
  echo "${text//$'\t'/\\011}"
}

# Files need a file to be mounted on; and what is only to be read is made so last.
files() {
  local i source target
  for i in "${!binds[@]}"; do
    source=/old${sources[binds[i]]} target=$1${targets[i]}
    if [ ! -d "$source" ]; then
      [ -d "${target%/*}" ] || mkdir -p "${target%/*}"
      [ -e "$target" ] || : > "$target"
      mount --bind "$source" "$target"
    fi
    [ "${modes[i]}" = rw ] || read_only "$target"
  done
}

# The system's own folders stay, whatever was asked for.
hide() {
  local folder
  for folder in / "${seen[@]}"; do [ "$1" != "$folder" ] || return 0; done
  [ ! -d "$1" ] || mount -t tmpfs -o mode=755,size=64m hidden "$1"
}

# A name server behind a link that leads out of /etc would be out of sight.
names() {
  local target
  [ -L /old/etc/resolv.conf ] || return 0
  target=$(readlink -f /old/etc/resolv.conf) || return 0
  [[ $target = /old/* && $target != /old/etc/* && -f $target ]] || return 0
  mkdir -p "$(dirname "${target#/old}")"
  : > "${target#/old}"
  mount --bind "$target" "${target#/old}"
}

# Interfaces of a new network namespace are down; ioctl SIOCSIFFLAGS with IFF_UP and IFF_RUNNING (netdevice(7)).
loopback_up() {
  perl -MSocket -e 'socket(my $s, AF_INET, SOCK_DGRAM, 0); ioctl($s, 0x8914, pack("a16sx22", "lo", 0x41))' 2>/dev/null ||
    ip link set lo up 2>/dev/null || :
}

# Links would lead nowhere in the new root.
resolve() {
  local count=${#sources[@]}
  [ "$count" = 0 ] || mapfile -t sources < <(realpath -e -- "${sources[@]}")
  [ ${#sources[@]} = "$count" ]
}

# The inner half. What goes wrong until the command starts is our fault, not the command's: 125.
inside() {
  local i top='' table=''
  set -E
  trap 'exit 125' ERR
  resolve
  host_root
  pivot_root . old
  cd /
  mount -t proc -o nosuid,nodev,noexec proc /proc
  for i in "${seen[@]}"; do read_only "$i"; done
  for i in "${hidden[@]}"; do hide "${sources[i]}"; done
  if [ -n "$root" ]; then
    top=/build
    mount --rbind "/old${sources[root]}" /build
    mkdir -p /build/proc /build/dev /build/tmp
    table=$'proc /build/proc proc nosuid,nodev,noexec 0 0\n'
  elif [ -n "$network" ]; then
    names
  fi
  devices "$top"
  folders "$top"
  echo "$table" > /run/mounts
  mount -a -T /run/mounts
  : > /run/mounts
  files "$top"
  umount -l /old
  rmdir /old
  { echo localhost > /proc/sys/kernel/hostname; } 2> /dev/null || hostname localhost 2> /dev/null || :
  [ -n "$network" ] || loopback_up
  trap - ERR
  launch
}

# In a user namespace of one id nobody can become another user; a second namespace calls us so.
is_mapped() {
  local first count
  while read -r first _ count; do
    if [ "$1" -ge "$first" ] && [ "$1" -lt $((first + count)) ]; then return 0; fi
  done < /proc/self/uid_map
  return 1
}

# We stay process 1, which reaps what the command leaves behind; when we end, so does all of it.
launch() {
  local as=()
  if [ -z "$user" ]; then
    as=()
  elif is_mapped "$user"; then
    as=(setpriv "--reuid=$user" "--regid=$user" --clear-groups --no-new-privs)
  else
    as=(unshare --user "--map-user=$user" "--map-group=$user" -- setpriv --no-new-privs --inh-caps=-all --bounding-set=-all)
  fi
  [ -z "$processes" ] || ulimit -u "$processes"
  if [ -z "$root" ]; then
    cd "$directory"
    "${as[@]}" "${command[@]}" || exit $?
    return
  fi
  as=(setpriv --no-new-privs chroot)
  [ -z "$user" ] || ! is_mapped "$user" || as+=("--userspec=$user:$user" --groups=)
  # shellcheck disable=SC2016
  "${as[@]}" /build /bin/sh -c 'cd "$0" && exec "$@"' "$directory" "${command[@]}" || exit $?
}

if [ "${1-}" = --inside ]; then
  shift
  parse "$@"
  inside
else
  parse "$@"
  enter "$@"
fi
