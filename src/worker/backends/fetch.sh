# Downloads, for the scripts beside this one, which source it and bring
#   fetch_step URL FILE [SHA256]   which follows no redirect: 0 once the file is there, else where the server sends us
#                                  in `target`, which is empty if nowhere. `host` and `addresses` tell of the URL.
# A redirect may lead anywhere but from a public server into the network of this machine. Names that only a proxy can
# look up count as public.

matches() { [[ $1 =~ ^($2)$ ]]; }

fetch() { # URL FILE [SHA256]
  local url=$1 from=private hop target host addresses
  for hop in 1 2 3 4 5 6 7 8 9 10; do
    reach_of "$url"
    # A host that is written oddly may be another one for whoever downloads.
    [ "$hop" = 1 ] || { matches "$url" 'https?://[^[:space:][:cntrl:]]+' && [ -n "$host" ]; } || return 1
    if [ "$from" != private ] && [ "$reach" != public ]; then
      echo "a public server sends us to $url, which is inside our network"
      return 1
    fi
    from=$reach
    target=''
    fetch_step "$url" "${@:2}" && return 0
    [ -n "$target" ] || return 1
    url=$target
  done
  return 1
}

# bounded COMMAND [ARGUMENT]...: no file larger than the worker itself would take, nor longer than it would wait; in
# the place that `within` names
within=()
bounded() (
  ulimit -f 16777216 2> /dev/null || : # of 1024 bytes; there may be a lower limit
  exec "${within[@]}" timeout --foreground 21600 "$@"
)

# Whether a host is one that anybody may reach or, as far as we can tell, one inside our network, or by some of its
# addresses: public, private or mixed into `reach`, the host into `host` and its addresses into `addresses`.
reach_of() { # URL
  local address private=0 url='^[a-z]+://([^/?#]*@)?(\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]+))(:[0-9]*)?([/?#]|$)'
  reach=public
  host=''
  addresses=()
  [[ $1 =~ $url ]] || return 0
  host=${BASH_REMATCH[3]}${BASH_REMATCH[4]}
  while read -r address; do
    addresses+=("$address")
    ! is_inside "$address" || private=$((private + 1))
  done < <(timeout 20 getent ahosts "$host" | awk '!seen[$1]++ { print $1 }' || :)
  if [ "$private" != 0 ]; then
    reach=mixed
    [ "$private" != "${#addresses[@]}" ] || reach=private
  fi
}

# IANA special-purpose address registries: what is not globally reachable, or has another address inside.
is_inside() { # ADDRESS
  local address=${1#::ffff:} high low
  local inside='^(0|10|127|22[4-9]|2[3-5][0-9])\.|^100\.(6[4-9]|[7-9][0-9]|1[01][0-9]|12[0-7])\.|^169\.254\.'
  inside+='|^172\.(1[6-9]|2[0-9]|3[01])\.|^192\.(0\.0|168)\.|^198\.1[89]\.'
  inside+='|^::1?$|^(f[cdf]|fe[89a-f])[0-9a-f]*:|^(64:ff9b:1|100|2002):'
  if [[ $address =~ ^64:ff9b::(([0-9a-f]{1,4}):)?([0-9a-f]{1,4})?$ ]]; then # what NAT64 translates (RFC 6052)
    high=$((16#${BASH_REMATCH[2]:-0}))
    low=$((16#${BASH_REMATCH[3]:-0}))
    address=$((high >> 8)).$((high & 255)).$((low >> 8)).$((low & 255))
  fi
  [[ $address =~ $inside ]]
}
