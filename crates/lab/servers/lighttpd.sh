#!/bin/sh
# lighttpd: lighttpd.sh PORT ROOT. The lab clears its folder away.
set -eu
folder=$(mktemp -d)
cat > "$folder/lighttpd.conf" <<END
server.document-root = "$2"
server.port = $1
server.bind = "127.0.0.1"
server.max-fds = 20000
server.max-connections = 15000
server.max-keep-alive-requests = 1000000000
server.max-keep-alive-idle = 3600
server.listen-backlog = 4096
index-file.names = ("index.html")
mimetype.assign = (".html" => "text/html", ".png" => "image/png", "" => "application/octet-stream")
END
exec lighttpd -D -f "$folder/lighttpd.conf"
