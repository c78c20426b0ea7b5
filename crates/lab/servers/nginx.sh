#!/bin/sh
# nginx as fast as it serves files, with one worker: nginx.sh PORT ROOT
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
user=$([ "$(id -u)" = 0 ] && echo 'user root;' || true)
cat > "$folder/nginx.conf" <<END
daemon off;
$user
worker_processes 1;
pid $folder/pid;
error_log $folder/error.log;
events { worker_connections 20000; }
http {
  include /etc/nginx/mime.types;
  access_log off;
  sendfile on;
  tcp_nopush on;
  keepalive_requests 1000000000;
  keepalive_timeout 3600;
  open_file_cache max=1000;
  server { listen 127.0.0.1:$1 backlog=4096; root $2; }
}
END
nginx -c "$folder/nginx.conf" -e "$folder/error.log"
