# Runs cells in this shell, one after the other: its variables, functions and folder stay.
#
# Descriptor 0 is a socket to the runner. A request is a line with the number of the cell and of bytes, and so many bytes of
# a script; an answer is a line with the number and the status.
exec 9<&0 0</dev/null
errand_answer() {
    if [ -n "${errand_cell-}" ]; then printf '%s %s\n' "$errand_cell" "$errand_status" >&9; fi
    errand_cell=
}
# An interrupt ends the command that runs, and not the shell.
trap : INT
printf 'ready\n' >&9
# A `break` or `continue` outside of the cell's own loops reaches these: it ends the cell.
while :; do
    while errand_answer; IFS=' ' read -r -u 9 errand_next errand_bytes; do
        LC_ALL=C IFS= read -r -N "$errand_bytes" -u 9 errand_code
        errand_cell=$errand_next errand_status=0
        # In a condition, so that `set -e` in a cell does not end the shell.
        if eval "$errand_code" 9<&-; then errand_status=0; else errand_status=$?; fi
    done
    [ -n "$errand_cell" ] || exit 0
done
