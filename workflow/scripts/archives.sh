# shellcheck shell=bash
# Fetching archives, for the download scripts beside this file: source it, then call `unpack`.

for tool in curl md5sum tar unzip; do
    command -v "$tool" >/dev/null || { echo "error: '$tool' is needed and not installed" >&2; exit 1; }
done

# unpack FOLDER URL MD5: fetch an archive, resuming where an earlier try stopped, verify it,
# unpack it into FOLDER and delete it. An archive that was unpacked before is not fetched again.
unpack() {
    local folder=$1 url=$2 md5=$3
    local archive=$folder/${url##*/}
    local done_file=$folder/.${url##*/}.unpacked
    mkdir -p "$folder"
    if [[ -e $done_file ]]; then
        echo "${url##*/}: unpacked before"
        return
    fi
    fetch "$url" "$archive" "$md5"
    echo "${url##*/}: unpacking"
    case $archive in
        *.zip) unzip -q -o "$archive" -d "$folder" ;;
        # VOC's archives hold a folder VOCdevkit, which is the target itself.
        *.tar) tar -xf "$archive" -C "$folder" --strip-components=1 ;;
        *) echo "error: $archive is no .zip and no .tar" >&2; exit 1 ;;
    esac
    touch "$done_file"
    rm "$archive"
}

# fetch URL FILE MD5: the file may be there already, in whole or in part.
fetch() {
    local url=$1 file=$2 md5=$3
    if matches "$file" "$md5"; then
        return
    fi
    echo "${url##*/}: fetching"
    # A connection that is not made in 30 seconds, or that sends less than 1 kB/s for a minute, is given up.
    if ! curl --fail --location --connect-timeout 30 --speed-time 60 --speed-limit 1000 \
        --retry 5 --continue-at - --output "$file" "$url"; then
        echo "error: fetching stopped; start again to go on, or delete $file to begin anew" >&2
        exit 1
    fi
    if ! matches "$file" "$md5"; then
        echo "error: $file has not the MD5 sum $md5; delete it and start again" >&2
        exit 1
    fi
}

matches() {
    [[ -f $1 ]] && md5sum --status --check - <<<"$2  $1"
}
