#!/usr/bin/env bash
# Fetches COCO 2017 (train and val images, instance annotations): a download of 20.4 GB, 21 GB on disk
# at the end and 40 GB while the training images are unpacked. An interrupted run resumes.
# usage: download_coco.sh [FOLDER]      FOLDER: data/coco
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/archives.sh"

folder=${1:-data/coco}
host=http://images.cocodataset.org

# COCO publishes no checksums. These are the checksums that public training code verifies.
unpack "$folder" "$host/zips/val2017.zip" 442b8da7639aecaf257c1dceb8ba8c80
unpack "$folder" "$host/zips/train2017.zip" cced6f7f71b7629ddf16f17bbcfab6b2
# The annotations are last: with them the data set counts as present.
unpack "$folder" "$host/annotations/annotations_trainval2017.zip" f4bbac642086de4f52a3fdda2de5fa2c
echo "COCO 2017 is at $folder"
