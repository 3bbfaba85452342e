# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
# Kernel packages unpacked into the cache folder; sourced by kernel and source.
# Everything is unpacked beside its place and renamed into it when complete, so
# an interrupted run leaves nothing that looks finished.

CACHE=${XBZRLE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/xbzrle}

# series | image, whose dependency names the ABI | headers | kbuild | source
readonly KERNELS='
6.1 linux-image-amd64 linux-headers-amd64 linux-kbuild-6.1 linux-source-6.1
'

die() {
	echo "${0##*/}: $*" >&2
	exit 1
}

# select_kernel SERIES: sets image_meta, headers_meta, kbuild and source.
select_kernel() {
	local series

	# shellcheck disable=SC2034 # each caller uses some of them
	while read -r series image_meta headers_meta kbuild source; do
		[ "$series" != "$1" ] || return 0
	done <<<"$KERNELS"
	die "no kernel series '$1' in the table of tools/vm/cache.sh"
}

as_root() {
	if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

# A machine fresh from its image knows no packages until the first update.
refresh_lists() {
	echo "${0##*/}: refreshing the package lists" >&2
	as_root apt-get -qq -o DPkg::Lock::Timeout=600 update >&2
}

# Two runs at once would download the same things twice.
lock_cache() {
	mkdir -p "$CACHE/dl"
	exec {lock_fd}>"$CACHE/lock"
	flock -n "$lock_fd" || {
		echo "${0##*/}: waiting for another run" >&2
		flock "$lock_fd"
	}
}

# download PACKAGE=VERSION...: apt checks the digests, also of a file kept from
# an earlier run. The option keeps apt from complaining that its own user may
# not write to the folder.
download() {
	echo "${0##*/}: downloading $*" >&2
	(cd "$CACHE/dl" &&
	 apt-get -qq -o APT::Sandbox::User=root download "$@") >&2
}

# unpack PACKAGE=VERSION INTO: the .deb's version has its colon escaped.
unpack() {
	local debs

	debs=("$CACHE/dl/${1%%=*}_${1#*=}"_*.deb)
	[ -f "${debs[0]}" ] || die "${debs[0]} was not downloaded"
	dpkg -x "${debs[0]}" "$2"
}
