# >>> sandproof delegation 1 >>>
# envd limits what it starts by writing into cgroups below /sys/fs/cgroup. The
# kernel gives a cgroup the files of a controller only where its parent enables
# it, and refuses a write that names several as a whole when one of them cannot
# be enabled. So each is enabled on its own, before envd starts.
if [ ! -e /sys/fs/cgroup/cgroup.controllers ]; then
	[ -d /sys/fs/cgroup ] || mount -t sysfs sysfs /sys || echo "sandproof: sysfs cannot be mounted at /sys"
	mount -t cgroup2 cgroup2 /sys/fs/cgroup || echo "sandproof: cgroup2 cannot be mounted at /sys/fs/cgroup"
fi
sandproof_offered=
[ ! -e /sys/fs/cgroup/cgroup.controllers ] || read -r sandproof_offered </sys/fs/cgroup/cgroup.controllers || :
for sandproof_controller in cpu memory io pids; do
	case " $sandproof_offered " in
	*" $sandproof_controller "*)
		if echo "+$sandproof_controller" >|/sys/fs/cgroup/cgroup.subtree_control; then
			echo "sandproof: delegation: $sandproof_controller enabled"
		else
			echo "sandproof: delegation: $sandproof_controller could not be enabled"
		fi
		;;
	*) echo "sandproof: delegation: $sandproof_controller is not offered by this kernel" ;;
	esac
done
unset sandproof_offered sandproof_controller
# <<< sandproof delegation 1 <<<
