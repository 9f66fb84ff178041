# shellcheck shell=bash
# Functions of the download scripts in this folder, which source this file and call `unpack`.

for tool in curl md5sum tar unzip; do
    command -v "$tool" >/dev/null || { echo "error: '$tool' is not installed; install it" >&2; exit 1; }
done

# unpack FOLDER URL MD5: fetch an archive, verify it, unpack it into FOLDER and delete it. An
# interrupted download resumes, and an archive that is already unpacked is not fetched again.
unpack() {
    local folder=$1 url=$2 md5=$3
    local archive=$folder/${url##*/}
    local done_file=$folder/.${url##*/}.unpacked
    mkdir -p "$folder"
    if [[ -e $done_file ]]; then
        echo "${url##*/}: already unpacked"
        return
    fi
    fetch "$url" "$archive" "$md5"
    echo "${url##*/}: unpacking"
    case $archive in
        *.zip) unzip -q -o "$archive" -d "$folder" ;;
        # The archives of VOC contain a folder VOCdevkit, which is FOLDER.
        *.tar) tar -xf "$archive" -C "$folder" --strip-components=1 ;;
        *) echo "error: $archive is neither a .zip nor a .tar file" >&2; exit 1 ;;
    esac
    touch "$done_file"
    rm "$archive"
}

# fetch URL FILE MD5: fetch a file, or the rest of it if a part exists.
fetch() {
    local url=$1 file=$2 md5=$3
    if matches "$file" "$md5"; then
        return
    fi
    echo "${url##*/}: fetching"
    # A download fails if connecting takes more than 30 seconds or a minute brings less than 1 kB/s.
    if ! curl --fail --location --connect-timeout 30 --speed-time 60 --speed-limit 1000 \
        --retry 5 --continue-at - --output "$file" "$url"; then
        echo "error: the download of $file stopped; run this again to resume it, or delete the file first" >&2
        exit 1
    fi
    if ! matches "$file" "$md5"; then
        echo "error: the MD5 sum of $file is not $md5; delete it and run this again" >&2
        exit 1
    fi
}

matches() {
    [[ -f $1 ]] && md5sum --status --check - <<<"$2  $1"
}
