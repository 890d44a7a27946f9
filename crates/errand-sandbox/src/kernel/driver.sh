# Runs cells in this shell, one after the other: its variables, functions and folder stay.
#
# Descriptor 0 is a socket to the runner. A request is a line with the number of bytes and so many bytes of a script; an
# answer is the status in a line.
exec 9<&0 0</dev/null
# An interrupt ends the command that runs, and not the shell.
trap : INT
printf 'ready\n' >&9
while IFS= read -r -u 9 errand_bytes; do
    LC_ALL=C IFS= read -r -N "$errand_bytes" -u 9 errand_code
    eval "$errand_code" 9<&-
    printf '%s\n' "$?" >&9
done
