#!/bin/sh
# nginx as fast as it serves files: nginx.sh PORT ROOT [WORKERS]. The lab clears its folder away.
set -eu
folder=$(mktemp -d)
user=$([ "$(id -u)" = 0 ] && echo 'user root;' || true)
cat > "$folder/nginx.conf" <<END
daemon off;
$user
worker_processes ${3:-1};
pid "$folder/pid";
error_log "$folder/error.log";
events { worker_connections 20000; }
http {
  include /etc/nginx/mime.types;
  access_log off;
  sendfile on;
  tcp_nopush on;
  keepalive_requests 1000000000;
  keepalive_timeout 3600;
  open_file_cache max=1000;
  server { listen 127.0.0.1:$1 backlog=4096$([ "${3:-1}" = 1 ] || echo ' reuseport'); root "$2"; }
}
END
exec nginx -c "$folder/nginx.conf" -e "$folder/error.log"
