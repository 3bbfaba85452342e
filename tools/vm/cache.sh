# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-3-Clause
# Kernel packages unpacked into the cache folder; sourced by kernel and source.
# Everything is unpacked beside its place and renamed into it when complete, so
# an interrupted run leaves nothing that looks finished.

# Also in $(...), where a command that fails must not go unnoticed either.
shopt -s inherit_errexit

CACHE=${XBZRLE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/xbzrle}

# What KERNEL may name, besides debug:
# name | series | architecture | compiler prefix, compiler | suites
# "-" is no prefix, the compiler of this machine, or its own package sources.
readonly KERNELS='
6.1		6.1	amd64	-			-	-
6.12		6.12	amd64	-			-	bookworm-backports
7.3		7.3	amd64	-			gcc-14	trixie trixie-backports
6.1-arm64	6.1	arm64	aarch64-linux-gnu-	-	-
6.12-arm64	6.12	arm64	aarch64-linux-gnu-	-	bookworm bookworm-backports
6.1-s390x	6.1	s390x	s390x-linux-gnu-	-	-
'

# The names in the table.
list_kernels() {
	awk '{ print $1 }' <<<"$KERNELS"
}

die() {
	echo "${0##*/}: $*" >&2
	exit 1
}

# select_kernel NAME: sets series, arch, cross, compiler and suites, and has apt
# speak of the packages that the kernel comes from.
select_kernel() {
	local name

	# shellcheck disable=SC2034 # each caller uses some of them
	while read -r name series arch cross compiler suites; do
		[ "$name" = "$1" ] || continue
		cross=${cross#-}
		compiler=${compiler#-}
		suites=${suites#-}
		use_packages "$arch" "$suites"
		return
	done <<<"$KERNELS"
	die "no kernel '$1' in the table of tools/vm/cache.sh"
}

as_root() {
	if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi
}

# make_beside FINAL COMMAND...: FINAL becomes what COMMAND puts into the folder
# that it gets as its last argument.
make_beside() {
	local final=$1 tmp
	shift

	tmp=$(mktemp -d "$CACHE/tmp.XXXXXX")
	# shellcheck disable=SC2064 # the name is known now
	trap "rm -rf '$tmp'" EXIT
	"$@" "$tmp"
	chmod 755 "$tmp"
	mkdir -p "${final%/*}"
	mv -T "$tmp" "$final"
	trap - EXIT
}

# Two runs at once would download the same things twice.
lock_cache() {
	[ -z "${lock_fd-}" ] || return 0
	mkdir -p "$CACHE/dl"
	exec {lock_fd}>"$CACHE/lock"
	flock -n "$lock_fd" || {
		echo "${0##*/}: waiting for another run" >&2
		flock "$lock_fd"
	}
}

# The packages that apt speaks of: this machine's, unless these options say
# otherwise.
apt=()

# A machine fresh from its image knows no packages until the first update.
refresh_lists() {
	echo "${0##*/}: refreshing the package lists" >&2
	if [ ${#apt[@]} = 0 ]; then
		as_root apt-get -qq -o DPkg::Lock::Timeout=600 update >&2
	else
		lock_cache
		apt-get "${apt[@]}" -qq update >&2
	fi
}

# known COMMAND...: what it prints; the package lists may be too old, or not
# there at all, if it prints nothing.
known() {
	local answer

	answer=$("$@") || true
	[ -n "$answer" ] || {
		refresh_lists
		answer=$("$@") || true
	}
	echo "$answer"
}

# candidate PACKAGE...: "PACKAGE=VERSION" of what apt would install.
candidate() {
	apt-cache "${apt[@]}" policy "$@" | awk '
	/^[^ ]/				{ sub(/:.*/, ""); name = $0 }
	$1 == "Candidate:" && $2 !~ /^\(/	{ print name "=" $2 }'
}

# This machine's own sources of Debian packages: URI, suite and label a line.
# Who made a source is known when it was updated once.
debian_sources() {
	# shellcheck disable=SC2016 # apt expands it
	apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(LABEL)' \
		'Created-By: Packages' 'Origin: Debian' 'Component: main' |
		sort -u
}

# The keys of every Debian suite, also those that are newer than this machine.
unpack_keys() {
	local package

	package=$(known candidate debian-archive-keyring)
	keys=$CACHE/keys/${package#*=}
	[ ! -d "$keys" ] || return 0
	lock_cache
	[ ! -d "$keys" ] || return 0
	download "$package"
	make_beside "$keys" unpack "$package"
}

# use_packages ARCHITECTURE SUITES: nothing of this machine's apt is changed
# for packages that it does not know. Its mirror is used.
use_packages() {
	local arch=$1 suites=$2 sources place uri suite label own

	[ "$arch$suites" != amd64 ] || return 0
	sources=$(known debian_sources)
	unpack_keys
	place=$CACHE/apt/$arch${suites:+-${suites// /+}}
	mkdir -p "$place/lists/partial" "$place/cache/archives/partial"
	[ -f "$place/status" ] || : >"$place/status"

	while read -r uri own label; do
		for suite in ${suites:-$own}; do
			[ -n "$suites" ] && [ "$label" != Debian ] ||
				echo "deb $uri $suite main"
		done
	done <<<"$sources" | sort -u >"$place/sources.$$"
	mv "$place/sources.$$" "$place/sources"
	[ -s "$place/sources" ] || die "this machine has no source of Debian packages"

	apt=(-o APT::Architecture="$arch" -o APT::Architectures="$arch"
	     -o APT::Sandbox::User=root -o Acquire::Languages=none
	     -o Dir::Etc::SourceList="$place/sources" -o Dir::Etc::SourceParts=-
	     -o Dir::Etc::Trusted=/dev/null
	     -o Dir::Etc::TrustedParts="$keys/etc/apt/trusted.gpg.d"
	     -o Dir::State="$place" -o Dir::State::Status="$place/status"
	     -o Dir::Cache="$place/cache")
}

# download PACKAGE=VERSION...: apt checks the digests, also of a file kept from
# an earlier run. The option keeps apt from complaining that its own user may
# not write to the folder.
download() {
	try_download "$@" || {
		refresh_lists
		try_download "$@"
	}
}

try_download() {
	local more=$(($# - 1))

	[ $more -gt 0 ] || more=
	echo "${0##*/}: downloading $1${more:+ and $more more}" >&2
	(cd "$CACHE/dl" && apt-get "${apt[@]}" -qq \
		-o APT::Sandbox::User=root download "$@") >&2
}

# unpack PACKAGE=VERSION INTO: the .deb's version has its colon escaped. There
# may be one for each architecture.
unpack() {
	local version=${1#*=} prefix deb

	prefix=$CACHE/dl/${1%%=*}_${version//:/%3a}
	for deb in "${prefix}_${arch-}.deb" "${prefix}_"*.deb; do
		[ -f "$deb" ] || continue
		dpkg -x "$deb" "$2"
		return
	done
	die "${prefix}_*.deb was not downloaded"
}

# all_there FILE: is all that an answer names still there?
all_there() {
	local named path

	mapfile -t named < <(sed -n 's/^[A-Z]*=\(\/.*\)/\1/p' "$1")
	for path in "${named[@]}"; do
		[ -e "$path" ] || return 1
	done
}

# remember COMMAND [NAME]: what it prints, or printed within a day if nothing of
# that is gone: asking apt again takes seconds. Another version of the script
# may give another answer.
remember() {
	local memo answer

	memo=$CACHE/answers/${0##*/}-${2:-6.1}-$(cat "$0" "${BASH_SOURCE[0]}" |
		cksum | tr ' ' -)
	if [ -z "$(find "$memo" -mmin -1440 2>/dev/null)" ] ||
	   ! all_there "$memo"; then
		answer=$("$@")
		mkdir -p "${memo%/*}"
		echo "$answer" >"$memo.$$"
		mv "$memo.$$" "$memo"
	fi
	cat "$memo"
}
