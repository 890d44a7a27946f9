# Runs cells in this shell, one after the other: its variables, functions and folder stay.
#
# Descriptor 0 is a socket to the runner. A request is a line with the number of the cell and of bytes, and so many bytes of
# a script; an answer is a line with the number and the status.
#
# Each cell is a script of its own: options such as `-e` end with it, and so does what it had to do on EXIT. One that
# ends early (`exit`, or `set -e` at a command that fails) would end this shell, so the shell goes on as a new one in the
# same process, which takes over all that was defined.
exec 9<&0 0</dev/null
errand_cell=
if [ "${1-}" = again ]; then
    # Some variables are the shell's own and cannot be set.
    . "$2" 2>/dev/null
    rm -f -- "$2"
    errand_cell=$3 errand_status=$4
fi
errand_leave() {
    errand_status=$?
    [ -n "${errand_cell-}" ] && errand_kept=$(mktemp) && { declare -p; declare -f; alias -p; shopt -p; } >"$errand_kept" || return
    # Hidden from the cell, the socket lies where this shell keeps what it has to put back.
    for errand_fd in /proc/$$/fd/*; do
        [ -S "$errand_fd" ] || continue
        exec bash /run/errand/driver.sh again "$errand_kept" "$errand_cell" "$errand_status" <&"${errand_fd##*/}"
    done
}
errand_answer() {
    { set +eux +o pipefail; } 2>/dev/null
    errand_trap=$(trap -p EXIT)
    trap errand_leave EXIT
    case $errand_trap in
        '' | *errand_leave*) ;;
        *) errand_trap=${errand_trap#"trap -- "} && eval "eval ${errand_trap% EXIT}" ;;
    esac
    if [ -n "${errand_cell-}" ]; then printf '%s %s\n' "$errand_cell" "$errand_status" >&9; fi
    errand_cell=
}
# An interrupt ends the cell, and not the shell.
trap '[ -z "${errand_cell-}" ] || exit 130' INT
if [ "${1-}" != again ]; then printf 'ready\n' >&9; fi
set --
# A `break` or `continue` outside of the cell's own loops reaches these: it ends the cell.
while :; do
    while errand_answer; IFS=' ' read -r -u 9 errand_next errand_bytes; do
        LC_ALL=C IFS= read -r -N "$errand_bytes" -u 9 errand_code
        errand_cell=$errand_next errand_status=0
        . /dev/fd/8 8<<<"$errand_code" 9<&-
        { errand_status=$?; set +eux; } 2>/dev/null
    done
    [ -n "$errand_cell" ] || exit 0
done
