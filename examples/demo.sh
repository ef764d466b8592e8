#!/bin/sh
# Calibrate this machine for a small and a large model, predict both, check the prediction against real runs, and
# write the report. What a user would type, in order; every command can be run alone.
set -eu
out=${1:-build/demo}
device=${DEVICE:-auto}
rm -rf "$out"
mkdir -p "$out"

costmodel calibrate pair --device "$device" --out "$out" >"$out/models.txt"
small=$(sed -n 1p "$out/models.txt")
large=$(sed -n 2p "$out/models.txt")
dtype=$(case "$small" in "$out"/*) echo fp32 ;; *) echo bf16 ;; esac)

costmodel calibrate run --device "$device" --model "$small" --model "$large" --out "$out/profile.json"

request="--hardware $out/profile.json --engine hf-eager --image 500x380 --prompt-tokens 60 --dtype $dtype"
costmodel predict --model "$small" $request --output-tokens 64 --format json >"$out/predict-small.json"
costmodel predict --model "$large" $request --output-tokens 12 --format json >"$out/predict-large.json"
costmodel predict --model "$small" $request --output-tokens 64
costmodel predict --model "$large" $request --output-tokens 12

costmodel breakeven --small "$small" --large "$large" $request --large-output 12 --small-output 64 \
    --plot "$out/breakeven.html" --format json >"$out/breakeven.json"
costmodel breakeven --small "$small" --large "$large" $request --large-output 12 --small-output 64

costmodel validate --small "$small" --large "$large" --hardware "$out/profile.json" --device "$device" \
    --dtype "$dtype" --runs "$out/runs.jsonl" --out "$out/validation.json" --no-gate

costmodel report --out "$out/report.html" --prediction "$out/predict-small.json" \
    --prediction "$out/predict-large.json" --break-even "$out/breakeven.json" \
    --validation "$out/validation.json" --hardware "$out/profile.json" --engine hf-eager \
    --command "make demo"
