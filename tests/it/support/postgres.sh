# Runs a throw-away PostgreSQL for as long as the standard input stays open: when the tests end, however they end,
# their side of the pipe closes, `read` returns, and server and directory go away.
#
# Arguments: the directory of the binaries, the directory to work in, the port on 127.0.0.1, then arguments of the server.
binaries=$1
directory=$2
port=$3
shift 3 # what is left goes to the server

cd "$directory" || exit 1
"$binaries/initdb" --pgdata data --auth trust --username postgres --encoding UTF8 --locale C --no-sync >log 2>&1 || {
    echo "FATAL: initdb failed" >>log
    read -r _
    rm -rf "$directory"
    exit 1
}
# Nothing here has to survive a power cut, only the death of the server: it is started anew until the tests end.
# max_connections is for many tests with a pool each.
(
    while [ ! -e ended ]; do
        "$binaries/postgres" -D data -p "$port" -k "$directory" -c listen_addresses=127.0.0.1 -c max_connections=300 \
            -c fsync=off -c full_page_writes=off -c wal_level=minimal -c max_wal_senders=0 \
            -c max_wal_size=256MB -c shared_buffers=64MB -c autovacuum=off -c restart_after_crash=off "$@" >>log 2>&1 </dev/null
    done
) &
supervisor=$!

read -r _

# At once, without a checkpoint. A server that is only just starting may miss the signal, so it is repeated.
touch ended
for _ in 1 2 3 4 5 6 7 8 9 10; do
    kill -0 "$supervisor" 2>/dev/null || break
    kill -QUIT "$(head -n 1 data/postmaster.pid 2>/dev/null)" 2>/dev/null
    sleep 0.2
done
kill -KILL "$(head -n 1 data/postmaster.pid 2>/dev/null)" 2>/dev/null
rm -rf "$directory"
