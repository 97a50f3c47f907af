#!/usr/bin/env bash
# sbatch recipes/accelerate/slurm.sh recipes/starcoder2.yaml --output_dir /shared/runs/starcoder2 --corpus_dir /shared/corpora
#
# One launcher on each node. Repository, model, corpora and runs must lie where every node sees them. Five minutes before the
# time is over the training is asked to save a checkpoint; the job goes back into the queue and resumes from there.
# Run by us with two launchers on one machine and stand-ins for Slurm's commands, not under Slurm.
#SBATCH --job-name=blocklm
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=2
#SBATCH --time=04:00:00
#SBATCH --signal=B:USR1@300
#SBATCH --requeue
#SBATCH --open-mode=append
set -euo pipefail

CONFIG="${ACCELERATE_CONFIG:-recipes/accelerate/ddp.yaml}"
PER_NODE="${SLURM_GPUS_ON_NODE:-1}"
FIRST="$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)"
export TORCH_ELASTIC_SHUTDOWN_TIMEOUT=280 # its 30 seconds after SIGTERM may be too few for a step and a checkpoint

requeue() {
    scancel --signal=TERM "$SLURM_JOB_ID" # the training, not this script
    wait "$TRAINING" || true
    scontrol requeue "$SLURM_JOB_ID"
}
trap requeue USR1

# shellcheck disable=SC2016 # each node has its own SLURM_NODEID
srun --kill-on-bad-exit=0 --wait=60 bash -c 'exec accelerate launch --machine_rank "$SLURM_NODEID" "$@"' launch \
    --config_file "$CONFIG" --num_machines "$SLURM_NNODES" --num_processes "$((SLURM_NNODES * PER_NODE))" \
    --main_process_ip "$FIRST" --main_process_port "${MAIN_PORT:-29500}" scripts/train.py "$@" &
TRAINING=$!
wait "$TRAINING"
