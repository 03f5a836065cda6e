#!/bin/sh
# The guest's first process: mounts what a test needs, runs the job, notes its exit status on the
# job disk and powers off. run.py takes a missing status for a failure.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8

mount -t proc proc /proc
mount -t sysfs sysfs /sys
mountpoint -q /dev || mount -t devtmpfs devtmpfs /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
for dir in /dev/shm /run /tmp; do mount -t tmpfs tmpfs "$dir"; done
# Each of these may be missing or mounted already; the job sees what there is.
mount -t securityfs securityfs /sys/kernel/security 2>/dev/null
mount -t debugfs debugfs /sys/kernel/debug 2>/dev/null
mount -t tracefs tracefs /sys/kernel/tracing 2>/dev/null
mount -t bpf bpf /sys/fs/bpf 2>/dev/null
mount -t cgroup2 cgroup2 /sys/fs/cgroup 2>/dev/null
[ -e /dev/fd ] || ln -s /proc/self/fd /dev/fd
hostname guest
ip link set lo up

# By label: which disk becomes nvme0 changes between boots, and this one may appear late.
tries=0
until disk=$(blkid -t LABEL=job -o device) || [ "$tries" -ge 40 ]; do
    tries=$((tries + 1))
    sleep 0.25
done
if mount -t ext4 -o commit=1 "$disk" /job; then
    cd /job || exit 1
    mkdir results
    RESULTS=/job/results sh ./run.sh
    echo "$?" >exit-status
    cd /
    # Processes that the job left behind may keep the disk busy, so sync does not wait for umount.
    sync
    umount /job
fi
busybox poweroff -f
