/* NVML's functions by their real names and structures, for tests on machines without an NVIDIA driver.
 *
 * Each line of the file that FAKE_NVML_STATE names is a GPU:
 *     utilisation used_bytes total_bytes celsius milliwatts clock_reasons millijoules mode
 * mode: ok, lost (every call fails), no-utilisation. Without the file there is no driver. Built with -DOLD it has the names
 * that drivers had before 2023.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SUCCESS = 0, NOT_SUPPORTED = 3, NOT_FOUND = 6, INSUFFICIENT_SIZE = 7, DRIVER_NOT_LOADED = 9, LOST = 15 };
typedef unsigned long long u64;
static struct gpu { unsigned util; u64 used, total; int celsius; unsigned milliwatts; u64 reasons, millijoules; char mode[32]; } gpus[8];

static int look(void) {
    const char *path = getenv("FAKE_NVML_STATE");
    FILE *file = path ? fopen(path, "r") : NULL;
    int count = 0;
    if (!file) return -1;
    for (struct gpu *g = gpus; count < 8; g++, count++)
        if (fscanf(file, "%u %llu %llu %d %u %llu %llu %31s", &g->util, &g->used, &g->total, &g->celsius, &g->milliwatts,
                   &g->reasons, &g->millijoules, g->mode) != 8) break;
    fclose(file);
    return count;
}

#define GPU struct gpu *g = &gpus[(long)handle - 1]; look(); if (!strcmp(g->mode, "lost")) return LOST;

int nvmlInitWithFlags(unsigned flags) { return look() < 0 ? DRIVER_NOT_LOADED : SUCCESS; }
const char *nvmlErrorString(int error) {
    return error == LOST ? "GPU is lost" : error == DRIVER_NOT_LOADED ? "Driver Not Loaded" : "an error";
}
int nvmlSystemGetDriverVersion(char *text, unsigned size) { snprintf(text, size, "999.1"); return SUCCESS; }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = look(); return SUCCESS; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **handle) { *handle = (void *)(long)(index + 1); return SUCCESS; }
int nvmlDeviceGetHandleByUUID(const char *uuid, void **handle) {
    unsigned index;
    if (sscanf(uuid, "GPU-fake-%u", &index) != 1 || (int)index >= look()) return NOT_FOUND;
    *handle = (void *)(long)(index + 1);
    return SUCCESS;
}
int nvmlDeviceGetName(void *handle, char *text, unsigned size) { snprintf(text, size, "Fake %ld", (long)handle - 1); return SUCCESS; }
int nvmlDeviceGetUtilizationRates(void *handle, unsigned *rates) {
    GPU if (!strcmp(g->mode, "no-utilisation")) return NOT_SUPPORTED;
    rates[0] = g->util; rates[1] = g->util / 2;
    return SUCCESS;
}
int nvmlDeviceGetMemoryInfo(void *handle, u64 *memory) {
    GPU memory[0] = g->total; memory[1] = g->total - g->used; memory[2] = g->used;
    return SUCCESS;
}
#ifndef OLD
struct temperature { unsigned version; int sensor, celsius; };
int nvmlDeviceGetTemperatureV(void *handle, struct temperature *t) { GPU t->celsius = g->celsius; return SUCCESS; }
int nvmlDeviceGetCurrentClocksEventReasons(void *handle, u64 *reasons) { GPU *reasons = g->reasons; return SUCCESS; }
#else
int nvmlDeviceGetTemperature(void *handle, int sensor, unsigned *celsius) { GPU *celsius = g->celsius; return SUCCESS; }
int nvmlDeviceGetCurrentClocksThrottleReasons(void *handle, u64 *reasons) { GPU *reasons = g->reasons; return SUCCESS; }
#endif
int nvmlDeviceGetPowerUsage(void *handle, unsigned *milliwatts) { GPU *milliwatts = g->milliwatts; return SUCCESS; }
int nvmlDeviceGetTotalEnergyConsumption(void *handle, u64 *millijoules) { GPU *millijoules = g->millijoules; return SUCCESS; }
int nvmlDeviceGetClockInfo(void *handle, int kind, unsigned *mhz) { GPU *mhz = kind == 1 ? 1680 : 7001; return SUCCESS; }
struct process { unsigned pid; u64 used; unsigned instance, compute; };
int nvmlDeviceGetComputeRunningProcesses_v3(void *handle, unsigned *count, struct process *found) {
    GPU if (!found) { *count = 2; return INSUFFICIENT_SIZE; }
    *count = 2;
    found[0] = (struct process){getpid(), g->used / 2, -1, -1};
    found[1] = (struct process){1, g->used / 4, -1, -1};
    return SUCCESS;
}
