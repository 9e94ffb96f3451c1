#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# usage: release.sh [--tag]
#
# Checks that HEAD can be released as the version that it bears, and shows the tag that
# would be made; --tag makes it (annotated, with the section of CHANGELOG.md; signed if
# git's tag.gpgSign says so).  Nothing is pushed.
#
# Before: `make lint`, `make test` and `make test-debug`; in CHANGELOG.md call the section
# "Unreleased" "VERSION - YYYY-MM-DD"; commit.  After: raise the version (see
# check-version.sh) and begin a new section "Unreleased".
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"
cd "$SRC"

case ${1:-} in
'' | --tag) ;;
*) die "release.sh: unknown option $1" "usage: release.sh [--tag]" ;;
esac

failed=0
refuse() {
	echo "error: $1"
	failed=1
}

version=$(scripts/check-version.sh) || {
	echo "$version"
	exit 1
}
tag=v$version
[[ -z $(git status --porcelain) ]] || refuse "the tree is not clean: commit or stash (git status)"
! git rev-parse --verify --quiet "refs/tags/$tag" >/dev/null ||
	refuse "the tag $tag is there already: raise the version"

heading=$(sed -n 's/^## //p' CHANGELOG.md | head -n 1)
[[ $heading =~ ^"$version"\ -\ [0-9]{4}-[0-9]{2}-[0-9]{2}$ ]] ||
	refuse "the first section of CHANGELOG.md is '$heading', not '$version - YYYY-MM-DD'"
# The first section without its heading; git would take other headings for comments.
notes=$(awk '/^## / { n++; next } n == 1' CHANGELOG.md | sed 's/^##* //; /./,$!d')
[[ -n ${notes//[[:space:]]/} ]] || refuse "the first section of CHANGELOG.md is empty"

newest=$(git tag --list 'v*' --sort=-version:refname | head -n 1)
[[ -z $newest || $(printf '%s\n' "$newest" "$tag" | sort -V | tail -n 1) == "$tag" ]] ||
	refuse "$tag is older than $newest"

message=$(printf 'ruaufs %s\n\n%s\n' "$version" "$notes")
say "$tag at $(git log -1 --format='%h (%s)')"
head -n 12 <<<"$message" | sed 's/^/    | /'
((failed == 0)) || die "$tag cannot be made of this commit"
if [[ ${1:-} == --tag ]]; then
	git tag --annotate --cleanup=whitespace --message "$message" "$tag"
	say "made; to publish it: git push origin $tag"
else
	say "this was a trial: scripts/release.sh --tag makes it"
fi
