#!/usr/bin/perl
# Runs a command in namespaces of its own, where nothing of this machine is seen but what is named here.
#
#   sandbox.pl [OPTION]... -- COMMAND [ARGUMENT]...
#   sandbox.pl --serve     make a sandbox for each request on standard input (see `serve`)
#
#   --user-namespace KIND  none: as root; auto: our user and its range in /etc/subuid; single: our user alone
#   --root DIR             use this tree as the root, writable; without it: the programs of this machine, read-only
#   --bind SOURCE TARGET   SOURCE is seen at TARGET and may be written
#   --read SOURCE TARGET   SOURCE is seen at TARGET and may be read
#   --hide PATH            an empty folder or file is seen there, for what lies below the machine's system folders
#   --user ID              run the command with this user and group id and without any rights of root; without it: as
#                          root with what it takes to make build roots, and nothing that reaches beyond (see `@kept`)
#   --network              leave the network on; without it there is only a loopback interface
#   --processes N          at most N processes and threads (needs a user namespace or --user)
#   --directory DIR        working directory
#
# Needs perl without any of its modules, and newuidmap and newgidmap (uidmap) for a range of ids. It asks the kernel
# itself, because each program that is started for a mount costs more than everything that is done here. Everything is
# gone when the command ends: processes, mounts, namespaces.
use strict;

# --- the kernel's interface ---------------------------------------------------------------------------------------

# Numbers of system calls by the machine of our own program (elf(5), e_machine; asm/unistd.h, asm-generic/unistd.h).
my %numbers = (
  62 => { # x86-64
    clone => 56, close => 3, exit_group => 231, getcwd => 79, setgroups => 116, setresuid => 117, setresgid => 119, pivot_root => 155, prctl => 157,
    mount => 165, umount2 => 166, sethostname => 170, unshare => 272, prlimit64 => 302, mount_setattr => 442,
    rt_sigprocmask => 14, setsid => 112, signalfd4 => 289, keyctl => 250,
  },
  183 => { # aarch64
    clone => 220, close => 57, exit_group => 94, getcwd => 17, setgroups => 159, setresuid => 147, setresgid => 149, pivot_root => 41, prctl => 167,
    mount => 40, umount2 => 39, sethostname => 161, unshare => 97, prlimit64 => 261, mount_setattr => 442,
    rt_sigprocmask => 135, setsid => 157, signalfd4 => 74, keyctl => 219,
  },
);
my $number = $numbers{machine()} or fail('the system calls of this kind of machine are not known');

sub machine {
  open my $self, '<:raw', '/proc/self/exe' or return 0;
  read $self, my $header, 20 or return 0;
  return unpack 'v', substr $header, 18, 2;
}

# Texts are handed over by address and are copies, numbers as they are; false where it failed, with the reason in $!.
sub call {
  my ($name, @given) = @_;
  return syscall($number->{$name}, @given) != -1;
}

# sched.h, sys/mount.h, linux/mount.h, sys/prctl.h, sys/resource.h, signal.h, sys/signalfd.h, sys/wait.h, linux/keyctl.h
my %clone = (mount => 0x20000, uts => 0x4000000, ipc => 0x8000000, user => 0x10000000, pid => 0x20000000, net => 0x40000000);
my ($read_only, $nosuid, $nodev, $noexec, $remount, $bind, $recursive, $private) =
  (1, 2, 4, 8, 32, 4096, 16384, 1 << 18);
my %flags = (
  ro => $read_only, nosuid => $nosuid, nodev => $nodev, noexec => $noexec,
  noatime => 1024, nodiratime => 2048, relatime => 1 << 21, nosymfollow => 256,
);
my $detach = 2;
# Where the machine's own root is while we build ours: no path of a build has such a name, so nothing is shown below it.
my $outside = '/:outside:';
my ($here, $and_below) = (-100, 0x8000); # AT_FDCWD, AT_RECURSIVE
my ($set_pdeathsig, $capbset_read, $capbset_drop, $set_no_new_privs) = (1, 23, 24, 38);
my ($limit_of_file, $limit_of_core, $limit_of_processes) = (1, 4, 6);
my ($sigkill, $sigchld, $set_mask, $close_on_exec, $no_hang) = (9, 17, 2, 0x80000, 1);
my $join_session_keyring = 1;

# What goes wrong until the command starts is our fault, not the command's: 125.
sub fail {
  print STDERR "sandbox: $_[0]\n";
  leave(125);
}

# At once: perl's own exit touches all of its memory first, of which a child has to be given copies.
sub leave {
  call('exit_group', $_[0] | 0);
  exit $_[0];
}

# --- the command line ---------------------------------------------------------------------------------------------

my ($kind, $root, $user, $network, $processes, $directory);
my (@shown, @hidden, @command); # of what is shown: its source, its target, whether it is only to be read

sub parse {
  my @left = @_;
  ($kind, $root, $user, $network, $processes, $directory) = ('none', undef, undef, 0, undef, '/');
  @shown = @hidden = @command = ();
  my $value = sub { @left > 0 ? shift @left : fail("an option $_[0] that is not complete") };
  while (@left) {
    my $option = shift @left;
    if ($option eq '--') { @command = @left; last }
    elsif ($option eq '--user-namespace') { $kind = $value->($option) }
    elsif ($option eq '--root') { $root = $value->($option) }
    elsif ($option =~ /^--(?:bind|read)$/) {
      my ($source, $target) = ($value->($option), $value->($option));
      push @shown, { source => $source, target => $target, is_read => $option eq '--read' };
    }
    elsif ($option eq '--hide') { push @hidden, $value->($option) }
    elsif ($option eq '--user') { $user = $value->($option) }
    elsif ($option eq '--network') { $network = 1 }
    elsif ($option eq '--processes') { $processes = $value->($option) }
    elsif ($option eq '--directory') { $directory = $value->($option) }
    else { fail("unknown option $option") }
  }
  fail('no command') if @command == 0;
  for (@shown) { fail("nothing can be shown at $_->{target}") if $_->{target} !~ m{^/} || $_->{target} =~ m{(^|/)(\.\.|\Q$outside\E)(/|$)} }
  for ($user, $processes) { fail("$_ is not a number") if defined && !/^\d{1,9}$/ }
}

# --- the outer half: make process 1 of new namespaces --------------------------------------------------------------

my ($alive, $us_alive); # a pipe of which whoever makes sandboxes has the other end open

# As fork does it, but the child is process 1 of new namespaces and does `$work`. Undefined where it cannot be made;
# what goes wrong later is said to `$errors`.
sub create {
  my ($kind, $network, $errors, $work) = @_;
  my $flags = $sigchld;
  $flags |= $clone{$_} for qw(mount pid ipc uts), $network ? () : 'net', $kind eq 'none' ? () : 'user';
  my @ids = ($>, (split / /, $))[0]);
  pipe my $mapped, my $mapper or return undef;
  my $process = syscall $number->{clone}, $flags, 0, 0, 0, 0;
  return undef if $process == -1;
  if ($process == 0) {
    close $_ for $mapper, $us_alive;
    fileno $errors == 2 or open STDERR, '>&', $errors or leave(125);
    map_one(0, @ids) if $kind eq 'single';
    sysread($mapped, my $is_mapped, 1) or leave(125) if $kind eq 'auto';
    close $mapped;
    dies_with_parent();
    $work->();
  }
  map_range($process, $mapper, $errors, @ids) if $kind eq 'auto';
  return $process;
}

# A user namespace calls our ids so (user_namespaces(7)).
sub map_one {
  my ($name, $user, $group) = @_;
  for (['setgroups', 'deny'], ['gid_map', "$name $group 1"], ['uid_map', "$name $user 1"]) {
    my ($file, $text) = @$_;
    open my $out, '>', "/proc/self/$file" or fail("$file: $!");
    syswrite($out, $text) or fail("$file: $!");
  }
}

# We are root there, and the ids behind it are those of /etc/subuid and /etc/subgid. Only programs with rights of their
# own may tell the kernel so, and not from within. Whoever waits reads a byte, or the end of file.
sub map_range {
  my ($process, $mapper, $errors, @ids) = @_;
  my $helper = fork;
  return if !defined $helper || $helper != 0;
  close $us_alive;
  fileno $errors == 2 or open STDERR, '>&', $errors or leave(125);
  my $name = getpwuid $ids[0];
  for (['newuidmap', '/etc/subuid', $ids[0]], ['newgidmap', '/etc/subgid', $ids[1]]) {
    my ($program, $file, $id) = @$_;
    open my $ranges, '<', $file or fail("$file: $!");
    my ($range) = grep { /^(?:\Q$ids[0]\E|\Q$name\E):\d+:\d+$/ } <$ranges> or fail("nothing for us in $file");
    my ($first, $count) = $range =~ /:(\d+):(\d+)$/;
    my @map = ($program, $process, 0, $id, 1, 1, $first, $count - 1); # as unshare(1) does it
    system(@map) == 0 or fail("$program: no map of ids");
  }
  syswrite $mapper, 'x';
  leave(0);
}

# Where that was too early to be told of, we end at once.
sub dies_with_parent {
  call('prctl', $set_pdeathsig, $sigkill, 0, 0, 0) or fail("no signal of the end: $!");
  my $ready = '';
  vec($ready, fileno $alive, 1) = 1;
  leave(125) if select $ready, undef, undef, 0; # its other end is closed
  close $alive;
}

# Process 1 reaps what the command leaves behind; when it ends, so does all of it. Its child becomes the command.
sub first {
  my ($work, $let_go) = @_;
  call('keyctl', $join_session_keyring, 0); # a new one, where the kernel has any: the worker's may hold its keys
  my $child = fork;
  defined $child or fail("no process: $!");
  $work->() if $child == 0;
  $let_go->();
  for (my $ended = 0; $ended != $child;) {
    $ended = wait;
    leave(125) if $ended == -1;
  }
  leave(($? & 127) == 0 ? $? >> 8 : 128 + ($? & 127));
}

# One sandbox, and we end as its command does.
sub enter {
  my $start = working_directory();
  pipe $alive, $us_alive or fail("no pipe: $!");
  my %before = map { $_ => $SIG{$_} || 'DEFAULT' } qw(INT TERM);
  $SIG{$_} = 'IGNORE' for keys %before; # what ends the command ends us, too
  my $inner = create($kind, $network, *STDERR, sub {
    $SIG{$_} = $before{$_} for keys %before;
    first(sub { finish($start, prepare($network)) }, sub {});
  });
  defined $inner or fail("no namespaces: $!");
  waitpid $inner, 0;
  my $signal = $? & 127;
  leave($? >> 8) if $signal == 0;
  $SIG{INT} = $SIG{TERM} = 'DEFAULT';
  kill $signal, $$;
  leave(128 + $signal);
}

# --- the inner half -----------------------------------------------------------------------------------------------

# All that does not depend on what is asked for: a root where the machine's own folders are seen. What was the root is
# still at `$outside`. The names of these folders are returned.
sub prepare {
  my ($network) = @_;
  mounted('none', '/', '', $recursive | $private) or fail("mounts stay shared: $!");
  my @seen = host_root();
  call('pivot_root', '.', substr $outside, 1) or fail("the new root cannot be entered: $!");
  chdir '/' or fail("the new root cannot be entered: $!");
  protect($_) for @seen;
  devices();
  call('sethostname', 'localhost', length 'localhost');
  loopback_up() if !$network;
  return @seen;
}

# The rest, with paths as they are outside, relative ones from there. Never returns.
sub finish {
  my ($start, @seen) = @_;
  outside(sub { resolve_all($start) });
  my $top = defined $root ? '/build' : '';
  my %targets = map { $_->{target} => 1 } @shown;
  if (!$targets{'/tmp'} || !$targets{'/var/tmp'}) { make_folders($_, 01777) for qw(/tmp /var/tmp) }
  hide($_, @seen) for @hidden;
  tree() if $top;
  names() if !$top && $network;
  folders_and_files($top);
  $_->{is_read} and protect($top . $_->{target}) for @shown; # last, so that what is mounted inside them is, too
  call('umount2', $outside, $detach) or fail("the old root stays: $!");
  rmdir $outside or fail("the old root stays: $!");
  become();
}

# Does something where paths mean what they mean outside.
sub outside {
  my ($work) = @_;
  opendir my $within, '/' or fail("no way back: $!");
  chroot $outside or fail("the old root cannot be entered: $!");
  $work->();
  chdir $within or fail("no way back: $!");
  chroot '.' or fail("no way back: $!");
}

# Links would lead nowhere in the new root.
sub resolve_all {
  my ($start) = @_;
  my $resolved = sub {
    my ($path) = @_;
    my $real = real($path =~ m{^/} ? $path : "$start/$path");
    defined $real or fail("$path: $!");
    return $real;
  };
  $root = $resolved->($root) if defined $root;
  $_ = $resolved->($_) for @hidden;
  $_->{source} = $resolved->($_->{source}) for @shown;
}

# The path without links in it; undefined where nothing is there, with the reason in $!. The working directory moves.
sub real {
  my ($path) = @_;
  for (1 .. 40) {
    if (-d $path) {
      chdir $path or return undef;
      return working_directory();
    }
    my ($folder, $name) = $path =~ m{^(.*/)([^/]+)/*$} or return undef;
    if (-l $path) {
      my $target = readlink $path;
      $path = $target =~ m{^/} ? $target : $folder . $target;
      next;
    }
    -e $path or return undef;
    chdir $folder or return undef;
    my $parent = working_directory();
    return $parent eq '/' ? "/$name" : "$parent/$name";
  }
  $! = 40; # ELOOP
  return undef;
}

sub working_directory {
  my $room = "\0" x 4097;
  syscall($number->{getcwd}, $room, 4097) != -1 or fail("no working directory: $!");
  return unpack 'Z*', $room;
}

sub mounted {
  my ($source, $target, $type, $flags, $options) = @_;
  return call('mount', $source, $target, $type, $flags | 0, defined $options ? $options : 0);
}

# A new file system on a folder, which is made where it is not there.
sub place {
  my ($source, $target, $type, $flags, $options) = @_;
  make_folders($target);
  mounted($source, $target, $type, $flags, $options) or fail("$type on $target: $!");
}

# A folder with all that is mounted in it, or a file, is seen elsewhere, too.
sub show {
  my ($source, $target) = @_;
  mounted($source, $target, '', $bind | (-d $source ? $recursive : 0)) or fail("$source at $target: $!");
}

sub make_folders {
  my ($path, $mode) = @_;
  my @missing;
  for (my $folder = $path; $folder ne '' && !-d $folder; $folder =~ s{/*[^/]+/*$}{}) { unshift @missing, $folder }
  for (@missing) { mkdir $_ or fail("$_ cannot be made: $!") }
  chmod $mode, $path if defined $mode && @missing;
}

sub make_file {
  my ($path) = @_;
  open my $file, '>>', $path or fail("$path cannot be made: $!");
}

# The machine's programs, seen read-only in an empty root on which nothing else is, and devices.
sub host_root {
  my (@seen, @links);
  mounted('root', '/tmp', 'tmpfs', 0, 'mode=755,size=64m') or fail("no root: $!");
  chdir '/tmp' or fail("no root: $!");
  make_folders("/tmp/$_") for qw(run sys mnt root home build), substr $outside, 1;
  place('devices', '/tmp/dev', 'tmpfs', $nosuid, 'mode=755,size=1m');
  place('terminals', '/tmp/dev/pts', 'devpts', 0, 'newinstance,ptmxmode=666,mode=620');
  place('memory', '/tmp/dev/shm', 'tmpfs', $nosuid | $nodev, 'mode=1777');
  place('proc', '/tmp/proc', 'proc', $nosuid | $nodev | $noexec);
  for my $name (qw(bin sbin lib lib32 lib64 libx32 usr etc opt var/lib/dpkg var/lib/apt var/lib/pacman var/lib/rpm)) {
    if (-l "/$name") { push @links, "/$name" }
    elsif (-d "/$name") { push @seen, "/$name" }
  }
  for my $name (@seen) {
    make_folders("/tmp$name");
    show($name, "/tmp$name");
  }
  my %usual = ('/dev/fd' => '/proc/self/fd', '/dev/stdin' => 'fd/0', '/dev/stdout' => 'fd/1', '/dev/stderr' => 'fd/2');
  for my $link (@links, sort keys %usual) {
    my $target = readlink $link;
    $target = $usual{$link} if !defined $target;
    symlink $target, "/tmp$link" or fail("$link cannot be made: $!");
  }
  make_file("/tmp/dev/$_") for qw(null zero full random urandom tty ptmx);
  return @seen;
}

# Every mount at or below this folder is only to be read from now on; their other flags stay.
sub protect {
  my ($target) = @_;
  my $wanted = pack 'Q4', $read_only, 0, 0, 0; # struct mount_attr
  return if call('mount_setattr', $here, $target, $and_below, $wanted, length $wanted);
  open my $mounts, '<', '/proc/self/mountinfo' or fail("mounts cannot be listed: $!"); # kernels before 5.12
  for my $line (reverse <$mounts>) {
    my ($point, $options) = (split / /, $line)[4, 5];
    $point =~ s/\\([0-7]{3})/chr oct $1/ge;
    next if $point ne $target && index($point, "$target/") != 0;
    my @options = split /,/, $options;
    next if grep { $_ eq 'ro' } @options;
    my $flags = $read_only | $remount | $bind;
    $flags |= $flags{$_} || 0 for @options; # in a user namespace they are locked
    mounted('none', $point, '', $flags) or call('umount2', $point, $detach) or fail("$point can be written: $!");
  }
}

# The system's own folders stay, whatever is to be hidden.
sub hide {
  my ($path, @seen) = @_;
  return if grep { $_ eq $path } '/', @seen;
  if (-d $path) { place('hidden', $path, 'tmpfs', 0, 'mode=755,size=64m') }
  elsif (-e $path) { show("$outside/dev/null", $path) }
}

sub devices {
  show("$outside/dev/$_", "/dev/$_") for qw(null zero full random urandom tty);
  show('/dev/pts/ptmx', '/dev/ptmx');
}

sub tree {
  my $source = $outside . $root;
  if (!-d "$source/tmp") { make_folders("$source/tmp", 01777) }
  show($source, '/build');
  place('proc', '/build/proc', 'proc', $nosuid | $nodev | $noexec);
  make_folders('/build/dev');
  show('/dev', '/build/dev');
}

# A name server behind a link that leads out of /etc would be out of sight.
sub names {
  return if !-l "$outside/etc/resolv.conf";
  my $file = real("$outside/etc/resolv.conf");
  chdir '/' or fail("the root is gone: $!");
  return if !defined $file || $file !~ m{^\Q$outside\E/.} || $file =~ m{^\Q$outside\E/etc/} || !-f $file;
  show_file($file, substr $file, length $outside);
}

sub show_file {
  my ($source, $target) = @_;
  make_folders($target =~ m{^(.*)/}) if !-e $target;
  make_file($target) if !-e $target;
  show($source, $target);
}

# Files after the folders around them.
sub folders_and_files {
  my ($top) = @_;
  for my $shown (grep { -d $outside . $_->{source} } @shown) {
    make_folders($top . $shown->{target});
    show($outside . $shown->{source}, $top . $shown->{target});
  }
  for my $shown (grep { !-d $outside . $_->{source} } @shown) {
    show_file($outside . $shown->{source}, $top . $shown->{target});
  }
}

# Interfaces of a new network namespace are down; ioctl SIOCSIFFLAGS with IFF_UP and IFF_RUNNING (netdevice(7)).
sub loopback_up {
  my ($inet, $datagrams) = (2, 2);
  socket my $socket, $inet, $datagrams, 0 or return;
  my $request = pack 'a16sx22', 'lo', 0x41; # struct ifreq
  ioctl $socket, 0x8914, $request;
}

# --- the command --------------------------------------------------------------------------------------------------

# What root may do in there (capabilities(7)) where it is the root of this machine: own, mount and enter trees, make
# devices as debootstrap does, set up networks of new namespaces, be other users, raise limits as systemd-nspawn of mock
# and repro does. Not: load modules, set the clock, restart, trace what runs outside, read the kernel's log, raw disks
# by number of file, or change the audit trail. It is no wall: who may mount and make devices can reach the disk. Run
# backends of which you are not sure with a worker that is no root.
# In the order of linux/capability.h: chown dac_override fowner fsetid kill setgid setuid setpcap net_bind_service net_admin
# net_raw sys_chroot sys_admin sys_resource mknod audit_write setfcap.
my @kept = (0, 1, 3, 4, 5, 6, 7, 8, 10, 12, 13, 18, 21, 24, 27, 29, 31);

sub bound_to {
  my %kept = map { $_ => 1 } @_;
  for (my $right = 0; call('prctl', $capbset_read, $right, 0, 0, 0); $right++) {
    next if $kept{$right};
    call('prctl', $capbset_drop, $right, 0, 0, 0) or fail("a right of root stays: $!");
  }
}

sub become {
  limit($limit_of_processes, $processes) or fail("no limit on processes: $!") if defined $processes;
  my $is_other = defined $user && is_mapped($user);
  if (defined $root) {
    chroot '/build' or fail("the root cannot be entered: $!");
    become_user() if $is_other;
    no_new_rights();
  } elsif (!defined $user) {
    bound_to(@kept) if $kind eq 'none';
  } elsif ($is_other) {
    become_user();
    no_new_rights();
  } else {
    become_mapped();
    no_new_rights();
    bound_to();
  }
  if (!chdir $directory) {
    print STDERR "sandbox: $directory: $!\n";
    leave(2);
  }
  $ENV{PWD} = $directory;
  delete $ENV{OLDPWD};
  run(@command);
}

sub limit {
  my ($what, $most) = @_;
  my $limit = pack 'Q2', $most, $most;
  return call('prlimit64', 0, $what, $limit, 0);
}

# Like a shell: 127 where there is no such program, 126 where it cannot be started.
sub run {
  my @program = @_;
  delete $ENV{PERL_BADLANG}; # it was for us
  exec { $program[0] } @program;
  my $why = $!; # number and text
  print STDERR "sandbox: $program[0]: $why\n";
  leave($why == 2 ? 127 : 126); # ENOENT
}

sub no_new_rights {
  call('prctl', $set_no_new_privs, 1, 0, 0, 0) or fail("rights may be gained: $!");
}

sub become_user {
  my $id = $user | 0;
  call('setgroups', 0, 0) or fail("groups stay: $!");
  call('setresgid', $id, $id, $id) or fail("group $id: $!");
  call('setresuid', $id, $id, $id) or fail("user $id: $!");
}

# In a user namespace of one id nobody can become another user; a second namespace calls us so.
sub is_mapped {
  my ($id) = @_;
  open my $map, '<', '/proc/self/uid_map' or fail("ids cannot be listed: $!");
  while (<$map>) {
    my ($first, undef, $count) = split;
    return 1 if $id >= $first && $id < $first + $count;
  }
  return 0;
}

sub become_mapped {
  my @ids = ($>, (split / /, $))[0]);
  call('unshare', $clone{user}) or fail("no user namespace: $!");
  map_one($user, @ids);
}

# --- many sandboxes, one after the other or at once ----------------------------------------------------------------

# Kept running by a program that would have to copy all of its memory for each program that it starts, while perl would
# have to start and read this file each time. A request is its length (32 bits, big endian) and texts that end with NUL:
#   start ID DIRECTORY FILE_BYTES CGROUP_FILE... '' NAME=VALUE... '' OPTION...
#   close ID
# The sandbox becomes a session of its own, in these groups and with this bound on files, and all that it prints goes
# into one pipe. Answers are lines:
#   started ID PID FD   FD is the end of the pipe to read from, to be opened as /proc/OUR_ID/fd/FD; then `close` it
#   failed ID WHY       to be closed, too
#   ended ID STATUS     as of wait(2)
# When the asker ends, so do we, and when we end, so do the sandboxes.
#
# Once a sandbox has ended, the next of its kind is made as far as it can be without a request: its processes wait in
# their namespaces to be told the rest. It is not used once anything was mounted outside, which it would not see.
my %sandboxes; # by their process 1: name, kind, network, pipe to tell it, pipe to read from, mount namespace
my %spares;    # sandboxes without a name, by what they are
my %outputs;   # pipes to read from, by name
my $ends;      # word of what has ended
my $mounts;    # word of what is mounted

sub serve {
  $0 = 'rebuilderd-sandboxes';
  $SIG{$_} = 'IGNORE' for qw(INT TERM HUP PIPE); # whoever stops the asker means it to end its work first
  call('prctl', $set_pdeathsig, $sigkill, 0, 0, 0) or fail("no signal of the end: $!");
  chdir '/';
  close_inherited();
  pipe $alive, $us_alive or fail("no pipe: $!");
  my $mask = pack 'Q', 1 << $sigchld - 1;
  call('rt_sigprocmask', $set_mask, $mask, 0, 8) or fail("signals come: $!");
  my $descriptor = syscall $number->{signalfd4}, -1, $mask, 8, $close_on_exec;
  open $ends, '<&=', $descriptor or fail("no word of what ends: $!");
  open $mounts, '<', '/proc/self/mountinfo' or fail("mounts cannot be listed: $!");
  my ($left, $ignored) = ('', '');
  while (1) {
    my ($ready, $changed) = ('', '');
    vec($ready, fileno $_, 1) = 1 for *STDIN, $ends;
    vec($changed, fileno $mounts, 1) = 1; # an exception, whenever something was mounted (proc_pid_mounts(5))
    next if select($ready, undef, $changed, undef) < 1;
    if (vec $changed, fileno $mounts, 1) { kill 'KILL', delete $spares{$_} for keys %spares }
    if (vec $ready, fileno $ends, 1) {
      sysread $ends, $ignored, 4096;
      while ((my $process = waitpid -1, $no_hang) > 0) { ended($process, $?) }
    }
    next if !vec $ready, fileno STDIN, 1;
    sysread STDIN, $left, 1 << 16, length $left or leave(0);
    while (length $left >= 4 && length $left >= 4 + unpack 'N', $left) {
      my $request = substr $left, 4, unpack 'N', $left;
      substr $left, 0, 4 + length $request, '';
      my ($what, $name, @given) = split /\0/, $request, -1;
      if ($what eq 'start') { start($name, $request, @given) }
      else { delete $outputs{$name} }
    }
  }
}

# What whoever started the asker has left open would lead out of a sandbox.
sub close_inherited {
  opendir my $folder, '/proc/self/fd' or fail("open files cannot be listed: $!");
  my @open = grep { /^\d+$/ && $_ > 2 } readdir $folder;
  closedir $folder;
  call('close', $_ | 0) for @open;
}

# In one piece, also where others answer at the same time.
sub answer { syswrite STDOUT, "@_\n" }

sub ended {
  my ($process, $status) = @_;
  return if !$sandboxes{$process}; # it was a helper
  my ($name, $kind, $network) = @{$sandboxes{$process}}{qw(name kind network)};
  my $what = "$kind $network";
  delete $spares{$what} if $process == ($spares{$what} || 0);
  answer('ended', $name, $status) if defined $name;
  delete $sandboxes{$process};
  return if !defined $name || $spares{$what};
  my $next = make($kind, $network);
  $spares{$what} = $next if defined $next;
}

sub start {
  my ($name, $request, @given) = @_;
  my ($kind, $network) = ('none', 0);
  for (my $at = 0; $at < @given && $given[$at] ne '--'; $at++) {
    $kind = $given[$at + 1] if $given[$at] eq '--user-namespace';
    $network = 1 if $given[$at] eq '--network';
  }
  my $spare = delete $spares{"$kind $network"};
  return if defined $spare && told($spare, $name, $request); # else it was killed just now
  my $process = make($kind, $network);
  return answer('failed', $name, "no namespaces: $!") if !defined $process;
  told($process, $name, $request) or answer('failed', $name, 'it ended before it began');
}

# Tells a sandbox what is asked for.
sub told {
  my ($process, $name, $request) = @_;
  my $sandbox = $sandboxes{$process};
  my $left = pack 'N/a*', join "\0", $process, fileno $sandbox->{output}, $request;
  while ($left ne '') {
    my $written = syswrite $sandbox->{teller}, $left;
    return 0 if !defined $written;
    substr $left, 0, $written, '';
  }
  close delete $sandbox->{teller};
  $outputs{$name} = delete $sandbox->{output};
  $sandbox->{name} = $name;
  return 1;
}

# A sandbox that waits to be told the rest. Its mounts stay until we let go of them, so that nobody has to wait for that.
sub make {
  my ($kind, $network) = @_;
  pipe my $output, my $input or return undef;
  pipe my $told, my $teller or return undef;
  my $process = create($kind, $network, $input, sub {
    close $_ for $output, $teller, $ends, $mounts, values %outputs, grep { defined } map { @$_{qw(output teller space)} } values %sandboxes;
    %outputs = %sandboxes = ();
    call('setsid') or fail("no session of its own: $!");
    open STDIN, '<', '/dev/null' or fail("/dev/null: $!");
    first(sub { begin($told, $input, prepare($network)) }, sub { close $_ for *STDIN, *STDOUT, *STDERR, $input, $told });
  });
  return undef if !defined $process;
  open my $space, '<', "/proc/$process/ns/mnt";
  $sandboxes{$process} = { kind => $kind, network => $network, teller => $teller, output => $output, space => $space };
  return $process;
}

# Waits for the rest, and does it.
sub begin {
  my ($told, $output, @seen) = @_;
  open STDIN, '<', '/dev/null' or fail("/dev/null: $!"); # that of the new root
  rehearse();
  read($told, my $length, 4) == 4 or leave(125);
  read($told, my $request, unpack 'N', $length) == unpack 'N', $length or leave(125);
  close $told;
  my $asked = understood($request);
  my $refuse = sub {
    answer('failed', $asked->{name}, "$_[0]: $!");
    leave(125);
  };
  outside(sub {
    my $failed = join_groups(@{$asked->{groups}});
    $refuse->($failed) if defined $failed;
    chdir $asked->{folder} or $refuse->($asked->{folder});
  });
  limit($limit_of_core, 0);
  limit($limit_of_file, $asked->{bytes} | 0) or $refuse->('no limit on files') if $asked->{bytes} ne '';
  my $nothing = pack 'Q', 0;
  call('rt_sigprocmask', $set_mask, $nothing, 0, 8) or $refuse->('signals stay away');
  $SIG{$_} = 'DEFAULT' for qw(INT TERM HUP PIPE);
  answer('started', @$asked{qw(name process descriptor)});
  open STDOUT, '>&', $output or leave(125);
  close $output;
  %ENV = %{$asked->{environment}};
  finish($asked->{folder}, @seen);
}

# Memory that a child changes for the first time is copied then: so here, before anybody waits for it.
sub rehearse {
  my @variables = map { "NAME_$_=" . '-' x 50 } 1 .. 30;
  my @options = map { ('--read', "/dev/$_", "/dev/$_") } ('null') x 20;
  my $asked = understood(join "\0", 1, 1, 'start', 1, '/', '', '/dev/null', '', @variables, '', @options, '--', 'true', '');
  %ENV = %{$asked->{environment}};
  outside(sub {
    join_groups('/dev/null');
    resolve_all('/');
  });
}

sub understood {
  my ($process, $descriptor, undef, $name, $folder, $bytes, @given) = split /\0/, $_[0], -1;
  pop @given; # behind the last NUL
  my @groups = until_empty(\@given);
  my %environment = map { split /=/, $_, 2 } until_empty(\@given);
  parse(@given);
  my %asked = (process => $process, descriptor => $descriptor, name => $name, folder => $folder, bytes => $bytes);
  return { %asked, groups => \@groups, environment => \%environment };
}

# With process 1, which would be a way out of them. What cannot be joined is returned.
sub join_groups {
  for my $group (@_) {
    open my $file, '>', $group or return $group;
    for (1, 0) { defined syswrite $file, $_ or return $group } # 0: ourselves
  }
  return undef;
}

sub until_empty {
  my ($left) = @_;
  my @taken;
  while (defined(my $next = shift @$left)) { $next eq '' ? last : push @taken, $next }
  return @taken;
}

# --- what is done -------------------------------------------------------------------------------------------------

umask 022;
if (@ARGV == 1 && $ARGV[0] eq '--serve') {
  serve();
} else {
  parse(@ARGV);
  enter();
}
