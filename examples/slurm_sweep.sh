#!/bin/bash
# A sweep as a Slurm array: every task computes its share, the last job joins them. No cluster engine is needed.
#
#   sbatch --array=1-8 examples/slurm_sweep.sh            # writes sweep.parquet.parts/ on the shared file system
#   sbatch --dependency=afterok:JOBID examples/slurm_sweep.sh merge
#
# A task that is requeued goes on where it stopped. Without Slurm: SHARDS=4 examples/slurm_sweep.sh runs all shares in turn.
#SBATCH --job-name=costmodel-sweep
#SBATCH --cpus-per-task=1
#SBATCH --mem=2G
#SBATCH --time=00:30:00
#SBATCH --requeue
set -euo pipefail

COSTMODEL=${COSTMODEL:-costmodel}
OUT=${OUT:-sweep.parquet}

options=(
    --model "${MODEL:-Qwen/Qwen3-VL-2B-Instruct,Qwen/Qwen3-VL-8B-Instruct}"
    --hardware "${HARDWARE:-h100-sxm,l40s}" --engine "${ENGINE:-vllm-0.7.2}"
    --image "${IMAGES:-none,640x480,1024x768}"
    --prompt-tokens "${PROMPTS:-64:4096:x2}" --output-tokens "${OUTPUTS:-1,16:512:16}" --batch "${BATCHES:-1:64:x2}"
)

if [[ ${1:-} == merge ]]; then
    exec $COSTMODEL sweep merge "$OUT.parts" --out "$OUT"
fi
if [[ -n ${SLURM_ARRAY_TASK_ID:-} ]]; then
    exec $COSTMODEL sweep "${options[@]}" --out "$OUT" --shard "$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_MAX"
fi
for ((i = 1; i <= ${SHARDS:=4}; i++)); do
    $COSTMODEL sweep "${options[@]}" --out "$OUT" --shard "$i/$SHARDS"
done
exec $COSTMODEL sweep merge "$OUT.parts" --out "$OUT"
