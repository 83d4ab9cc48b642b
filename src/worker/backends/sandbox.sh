#!/bin/bash
# Runs a command in namespaces of its own, where nothing of this machine is seen but what is named here.
#
#   sandbox.sh [OPTION]... -- COMMAND [ARGUMENT]...
#
#   --user-namespace KIND  none: as root; auto: our user and its range in /etc/subuid; single: our user alone
#   --root DIR             use this tree as the root, writable; without it: the programs of this machine, read-only
#   --bind SOURCE TARGET   SOURCE is seen at TARGET and may be written
#   --read SOURCE TARGET   SOURCE is seen at TARGET and may be read
#   --hide PATH            an empty folder or file is seen there, for what lies below the machine's system folders
#   --user ID              run the command with this user and group id and without any rights of root; without it: as
#                          root with what it takes to make build roots, and nothing that reaches beyond (see `kept`)
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
  local flags=(--mount --pid --ipc --uts --fork --kill-child --propagation private) self=$0
  [ -n "$network" ] || flags+=(--net)
  case $kind in
    none) ;;
    auto) flags+=(--user --map-root-user --map-auto) ;;
    single) flags+=(--user --map-root-user) ;;
    *) echo "sandbox: unknown kind of user namespace $kind" >&2; exit 125 ;;
  esac
  [[ $self = /* ]] || self=$PWD/$self
  exec unshare "${flags[@]}" -- /bin/bash "$self" --inside "$@"
}

# Each program that is started costs more than all that it does here. So mounts are collected in a table, which one
# call of mount works off, and what bash can do is done by bash.
add() { # SOURCE TARGET TYPE OPTIONS
  escape "$1"
  table+="$escaped "
  escape "$2"
  table+="$escaped $3 $4 0 0"$'\n'
  wanted+=("$2")
}

escape() { # fstab(5), into `escaped`
  escaped=${1//\\/\\134}
  escaped=${escaped// /\\040}
  escaped=${escaped//$'\t'/\\011}
  escaped=${escaped//$'\n'/\\012}
}

# In user namespaces some flags of a mount are locked, and a wish for others fails when the mount itself is made:
# `read_only` comes back to those. What is not mounted at all ends everything.
mount_all() { # FILE: where to write the table
  local said target
  echo "$table" > "$1"
  said=$(LC_ALL=C mount -a -T "$1" 2>&1) || {
    mounted
    for target in "${wanted[@]}"; do
      [ -n "${points[$target]-}" ] || { echo "sandbox: $said" >&2; exit 125; }
    done
  }
  : > "$1"
  table='' wanted=()
}

# What is mounted where: a table of options by target, into `points`.
mounted() {
  local target options
  declare -gA points=()
  while read -r _ _ _ _ target options _; do
    printf -v target %b "$target"
    points[$target]=$options
  done < /proc/self/mountinfo
}

# The machine's programs, seen read-only in an empty root on which nothing else is, and devices.
host_root() {
  local name links=()
  LC_ALL=C mount -t tmpfs -o mode=755,size=64m root /tmp
  cd /tmp
  mkdir run sys mnt root home build
  add devices /tmp/dev tmpfs mode=755,size=1m,nosuid,X-mount.mkdir
  add terminals /tmp/dev/pts devpts newinstance,ptmxmode=666,mode=620,X-mount.mkdir
  add memory /tmp/dev/shm tmpfs mode=1777,nosuid,nodev,X-mount.mkdir
  add proc /tmp/proc proc nosuid,nodev,noexec,X-mount.mkdir
  for name in bin sbin lib lib32 lib64 libx32 usr etc opt var/lib/dpkg var/lib/apt var/lib/pacman var/lib/rpm; do
    if [ -L "/$name" ]; then links+=("/$name"); elif [ -d "/$name" ]; then seen+=("/$name"); fi
  done
  for name in "${seen[@]}"; do add "$name" "/tmp$name" none rbind,ro,X-mount.mkdir; done
  mount_all run/mounts
  [[ " ${targets[*]} " = *" /tmp "* && " ${targets[*]} " = *" /var/tmp "* ]] || mkdir -p -m 1777 tmp var/tmp
  for name in fd stdin stdout stderr; do [ ! -L "/dev/$name" ] || links+=("/dev/$name"); done
  [ ${#links[@]} = 0 ] || cp -P --parents "${links[@]}" .
  [ -L dev/fd ] || ln -s /proc/self/fd dev/fd
  [ -L dev/stdin ] || ln -s fd/0 dev/stdin
  [ -L dev/stdout ] || ln -s fd/1 dev/stdout
  [ -L dev/stderr ] || ln -s fd/2 dev/stderr
  for name in null zero full random urandom tty ptmx; do : > "dev/$name"; done
}

# Every mount at or below these folders, so that what is mounted inside them is read-only too.
read_only() { # TARGET...
  local target point options
  mounted
  for point in "${!points[@]}"; do
    options=${points[$point]}
    [[ $options != ro* ]] || continue
    for target; do
      [[ $point = "$target" || $point = "$target"/* ]] || continue
      options=${options#rw} # the other flags must stay: in a user namespace they are locked
      mount -o "remount,bind,ro$options" "$point" 2>/dev/null || umount -l "$point"
      break
    done
  done
}

# The old root is at /mnt by now. The system's own folders stay, whatever is to be hidden.
hide() {
  local folder
  for folder in / "${seen[@]}"; do [ "$1" != "$folder" ] || return 0; done
  if [ -d "$1" ]; then
    add hidden "$1" tmpfs mode=755,size=64m
  elif [ -e "$1" ]; then
    add /mnt/dev/null "$1" none bind
  fi
}

devices() {
  local name
  for name in null zero full random urandom tty; do add "/mnt/dev/$name" "/dev/$name" none bind; done
  add /dev/pts/ptmx /dev/ptmx none bind
}

# $1 is the root: nothing, or that of the tree.
folders() {
  local i source
  for i in "${!binds[@]}"; do
    source=/mnt${sources[binds[i]]}
    [ ! -d "$source" ] || add "$source" "$1${targets[i]}" none "rbind,${modes[i]},X-mount.mkdir"
  done
}

# Those that have a file to be mounted on go into the table, others have to wait for the folders around them.
files() {
  local i source target
  for i in "${!binds[@]}"; do
    source=/mnt${sources[binds[i]]} target=$1${targets[i]}
    [ ! -d "$source" ] || continue
    if [ "$2" = at_once ] && [ -f "$target" ]; then
      add "$source" "$target" none "bind,${modes[i]}"
      placed[i]=yes
    elif [ "$2" = last ] && [ -z "${placed[i]-}" ]; then
      [ -d "${target%/*}" ] || mkdir -p "${target%/*}"
      [ -e "$target" ] || : > "$target"
      add "$source" "$target" none "bind,${modes[i]}"
    fi
  done
}

# What is only to be read is made so last.
protect() {
  local i only=()
  for i in "${!binds[@]}"; do
    [ "${modes[i]}" = rw ] || only+=("$1${targets[i]}")
  done
  [ ${#only[@]} = 0 ] || read_only "${only[@]}"
}

# A name server behind a link that leads out of /etc would be out of sight.
names() {
  local target
  [ -L /mnt/etc/resolv.conf ] || return 0
  target=$(readlink -f /mnt/etc/resolv.conf) || return 0
  [[ $target = /mnt/* && $target != /mnt/etc/* && -f $target ]] || return 0
  mkdir -p "$(dirname "${target#/mnt}")"
  : > "${target#/mnt}"
  add "$target" "${target#/mnt}" none bind
}

# Interfaces of a new network namespace are down; ioctl SIOCSIFFLAGS with IFF_UP and IFF_RUNNING (netdevice(7)).
loopback_up() {
  perl -MSocket -e 'socket(my $s, AF_INET, SOCK_DGRAM, 0); ioctl($s, 0x8914, pack("a16sx22", "lo", 0x41))' 2>/dev/null ||
    ip link set lo up 2>/dev/null || :
}

# Links would lead nowhere in the new root.
resolve() {
  local i source start=$PWD
  for i in "${!sources[@]}"; do
    source=${sources[i]}
    [[ $source = /* ]] || source=$start/$source
    if [ -d "$source" ] && cd -P -- "$source" 2> /dev/null; then
      sources[i]=$PWD
    elif [ -e "$source" ] && [ ! -L "$source" ] && cd -P -- "${source%/*}/" 2> /dev/null; then
      sources[i]=${PWD%/}/${source##*/}
    else
      sources[i]=$(realpath -e -- "$source")
    fi
  done
}

# The inner half. What goes wrong until the command starts is our fault, not the command's: 125.
inside() {
  local i top='' table='' wanted=() placed=() escaped
  set -E
  trap 'exit 125' ERR
  resolve
  host_root
  pivot_root . mnt
  cd /
  read_only "${seen[@]}"
  for i in "${hidden[@]}"; do hide "${sources[i]}"; done
  devices
  if [ -n "$root" ]; then
    top=/build
    add "/mnt${sources[root]}" /build none rbind
    add proc /build/proc proc nosuid,nodev,noexec,X-mount.mkdir
    add /dev /build/dev none rbind,X-mount.mkdir
    [ -d "/mnt${sources[root]}/tmp" ] || mkdir -m 1777 "/mnt${sources[root]}/tmp"
  else
    [ -z "$network" ] || names
    files '' at_once
  fi
  folders "$top"
  mount_all /run/mounts
  files "$top" last
  [ -z "$table" ] || mount_all /run/mounts
  protect "$top"
  umount -l /mnt
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

# What root may do in there (capabilities(7)) where it is the root of this machine: own, mount and enter trees, make
# devices as debootstrap does, set up networks of new namespaces, be other users, raise limits as systemd-nspawn of mock
# and repro does. Not: load modules, set the clock, restart, trace what runs outside, read the kernel's log, raw disks
# by number of file, or change the audit trail. It is no wall: who may mount and make devices can reach the disk. Run
# backends of which you are not sure with a worker that is no root.
kept=-all,+chown,+dac_override,+fowner,+fsetid,+kill,+setgid,+setuid,+setpcap,+setfcap,+sys_chroot,+sys_admin,+mknod
kept+=,+net_admin,+net_bind_service,+net_raw,+audit_write,+sys_resource

# We stay process 1, which reaps what the command leaves behind; when we end, so does all of it.
launch() {
  local as=()
  if [ -z "$user" ]; then
    [ "$kind" != none ] || as=(setpriv "--bounding-set=$kept")
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
