#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# usage: check-commits.sh [BASE]
#
# Checks the commits after BASE (default: those that were not pushed yet): subjects of at
# most 72 characters with the prefix "ruaufs: ", an empty line after them, and a
# Signed-off-by of the author.  CONTRIBUTING.md says what it means.
# shellcheck source=scripts/lib.sh
. "$(dirname "$0")/lib.sh"
cd "$SRC"

base=${1:-$(git rev-parse --verify --quiet '@{upstream}' || :)}
[[ -n $base ]] || die "check-commits.sh: this branch follows no other one" "name a base"
git merge-base "$base" HEAD >/dev/null || die "check-commits.sh: $base is no commit of this history"

failed=0
# refuse COMMIT WHY
refuse() {
	echo "error: $(git log -1 --format='%h (%s)' "$1"): $2"
	failed=1
}
while read -r commit; do
	subject=$(git log -1 --format=%s "$commit")
	author=$(git log -1 --format='%an <%ae>' "$commit")
	((${#subject} <= 72)) || refuse "$commit" "the subject has ${#subject} characters, not 72"
	[[ $subject == "ruaufs: "* ]] || refuse "$commit" "the subject does not begin with 'ruaufs: '"
	[[ -z $(git log -1 --format=%B "$commit" | sed -n 2p) ]] ||
		refuse "$commit" "no empty line after the subject"
	git log -1 --format='%(trailers:key=Signed-off-by,valueonly)' "$commit" |
		grep -qxF "$author" || refuse "$commit" "no Signed-off-by: $author (git commit -s)"
done < <(git rev-list --no-merges "$base..HEAD")
((failed == 0))
