#!/bin/sh
# The init of a template that starts envd under its limits. It is process 1 of
# each sandbox, and must never end. What goes wrong is said on the console,
# which the orchestrator's log carries; nothing of it ends the init. It is
# written for busybox, dash and bash.

# The console is the serial port; where there is none, what the kernel gave.
if [ ! -e /dev/ttyS0 ]; then
	mount -t devtmpfs devtmpfs /dev 2>/dev/null || :
fi
if (: >/dev/ttyS0) 2>/dev/null; then
	exec </dev/null >/dev/ttyS0 2>&1
fi
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
HOME=/root
export PATH HOME

echo "=== E2B Init Starting ==="

# have TYPE DIR: whether a file system of that type is mounted there.
have() {
	[ -r /proc/mounts ] || return 1
	while read -r _ dir type _; do
		[ "$dir $type" = "$2 $1" ] && return 0
	done </proc/mounts
	return 1
}

# mounted TYPE DIR [OPTIONS]: mount it, unless it is there.
mounted() {
	have "$1" "$2" && return 0
	[ -d "$2" ] || mkdir -p "$2" || echo "sandproof: $2 cannot be made"
	mount -t "$1" ${3:+-o "$3"} "$1" "$2" || echo "sandproof: $1 cannot be mounted at $2"
}

mounted proc /proc nosuid,nodev,noexec
mounted sysfs /sys nosuid,nodev,noexec
mounted devtmpfs /dev mode=0755,nosuid
mounted devpts /dev/pts gid=5,mode=620,ptmxmode=666
mounted tmpfs /dev/shm mode=1777,nosuid,nodev
mounted tmpfs /run mode=0755,nosuid,nodev
mounted cgroup2 /sys/fs/cgroup nosuid,nodev,noexec
[ -e /dev/fd ] || ln -s /proc/self/fd /dev/fd || :
@DELEGATION@
echo "✓ Filesystems mounted (with cgroup delegation)"

# The kernel was given the address of eth0 (ip=).
if command -v ip >/dev/null 2>&1; then
	ip link set lo up || echo "sandproof: lo cannot be brought up"
	ip link set eth0 up || echo "sandproof: eth0 cannot be brought up"
elif command -v ifconfig >/dev/null 2>&1; then
	ifconfig lo 127.0.0.1 up || echo "sandproof: lo cannot be brought up"
	ifconfig eth0 up || echo "sandproof: eth0 cannot be brought up"
else
	echo "sandproof: neither ip nor ifconfig is in the image: the network stays as the kernel left it"
fi
[ ! -r /etc/hostname ] || { read -r name </etc/hostname && echo "$name" >/proc/sys/kernel/hostname; } || :
echo "✓ Network configured"

echo "=== Starting envd ==="
if [ -x /usr/local/bin/envd ]; then
	/usr/local/bin/envd &
elif [ -x /usr/bin/envd ]; then
	/usr/bin/envd &
else
	echo "sandproof: the image has no envd in /usr/local/bin or /usr/bin: the sandbox will not answer"
fi
echo "=== Init complete, envd started ==="

# Process 1 inherits every orphan, and must wait for each; the shell does so
# while it waits for its own.
while :; do
	wait
	sleep 1
done
