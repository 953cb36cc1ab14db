#!/bin/sh
# A CNI plugin for tests; see RECORDER in mod.rs.
folder=$(dirname "$0")/..
read -r request
echo "$CNI_COMMAND ${0##*/} ${CNI_CONTAINERID:-} ${CNI_IFNAME:-} ${CNI_ARGS:-}|$request" >> "$folder/log"
if grep -qs "$CNI_COMMAND" "$folder/refuse"; then
  echo '{"cniVersion": "1.1.0", "code": 50, "msg": "no", "details": "not now"}'
  exit 1
fi
if [ "$CNI_COMMAND" = ADD ]; then
  echo '{"cniVersion": "1.1.0", "ips": [{"address": "10.42.7.5/24"}]}'
fi
