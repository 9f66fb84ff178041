#!/usr/bin/env bash
# Fetches Pascal VOC 2007 (trainval, test) and 2012 (trainval): a download of 2.9 GB, 3 GB on disk at
# the end and 5 GB in between. An interrupted run resumes.
# usage: download_voc.sh [FOLDER]      FOLDER: data/VOCdevkit
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/archives.sh"

folder=${1:-data/VOCdevkit}
host=http://host.robots.ox.ac.uk/pascal/VOC

# Checksums as torchvision lists them (torchvision/datasets/voc.py).
unpack "$folder" "$host/voc2007/VOCtrainval_06-Nov-2007.tar" c52e279531787c972589f7e41ab4ae64
unpack "$folder" "$host/voc2007/VOCtest_06-Nov-2007.tar" b6e924de25625d8de591ea690078ad9f
unpack "$folder" "$host/voc2012/VOCtrainval_11-May-2012.tar" 6cd6e144f989b92b3379bac3b3de84fd
echo "VOC 2007 and 2012 are at $folder"
