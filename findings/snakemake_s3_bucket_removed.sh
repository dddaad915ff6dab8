#!/usr/bin/env bash
# snakemake-storage-plugin-s3: what is made again is removed from the bucket first, and with its last object the bucket too.
#
# Before a job starts Snakemake removes the job's outputs, those in storage as well, and the plug-in then deletes a bucket that is
# empty. So a bucket that was made for one result, with its policies, versions and life cycle, is gone while that result is made
# again, and stays gone, with the earlier result, if the job fails; after a success there is another bucket of this name. A local
# output is only removed. What must not be lost is no output in storage, so `gt.store` brings records there itself.
#
# Seen with snakemake 9.27.1, snakemake-storage-plugin-s3 0.3.6 and moto 5.2.5 as the server, Python 3.11:
#   buckets in the first job, after it, in the second, after it failed: ['lab'] ['lab'] [] []
#
# Exits with 1 where it is otherwise.
set -euo pipefail
folder=$(mktemp -d) server=
trap 'kill $server 2>/dev/null || true; rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet snakemake==9.27.1 snakemake-storage-plugin-s3==0.3.6 'moto[server]==5.2.5'
cd "$folder"
export PATH="$folder/venv/bin:$PATH" AWS_ACCESS_KEY_ID=key AWS_SECRET_ACCESS_KEY=secret AWS_DEFAULT_REGION=us-east-1
python -m moto.server -H 127.0.0.1 -p 0 > server.log 2>&1 &
server=$!
for _ in $(seq 60); do grep -q 'Running on' server.log && break || sleep 1; done
AWS_ENDPOINT_URL=$(sed -n 's/.*Running on \(http[^ ]*\).*/\1/p' server.log)
export AWS_ENDPOINT_URL

cat > buckets.py <<'PYTHON'
import boto3

print([bucket["Name"] for bucket in boto3.client("s3").list_buckets()["Buckets"]])
PYTHON
cat > Snakefile <<'SNAKEMAKE'
rule make:
    output:
        "result",
    shell:
        "python buckets.py >> seen; test ! -e fail; echo made > {output}"
SNAKEMAKE
call() {
    python -m snakemake --cores 1 --quiet all --default-storage-provider s3 --default-storage-prefix s3://lab \
        --storage-s3-endpoint-url "$AWS_ENDPOINT_URL" "$@" > snakemake.log 2>&1
}
python -c 'import boto3; boto3.client("s3").create_bucket(Bucket="lab")'
call
python buckets.py >> seen
touch fail
! call --forcerun make
python buckets.py >> seen
found=$(tr '\n' ' ' < seen)
echo "buckets in the first job, after it, in the second, after it failed: $found"
[ "$found" = "['lab'] ['lab'] [] [] " ]
