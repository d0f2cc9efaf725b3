// A stand-in for NVML, for tests. It is compiled with VALUES, the path of a file with one line per GPU:
//     UUID STATUS UTILIZATION MEMORY
// When it is initialized, it creates the file VALUES.started.
// UTILIZATION is -1 if the GPU does not measure it. STATUS is the code that calls return; with 1000 they never return.

#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { SUCCESS = 0, NOT_SUPPORTED = 3, NOT_FOUND = 6, HANGS = 1000 };

typedef struct {
    char uuid[64];
    int status;
    int utilization;
    unsigned long long memory;
} Gpu;

typedef struct {
    unsigned gpu, memory;
} Utilization;

typedef struct {
    unsigned version;
    unsigned long long total, reserved, free, used;
} Memory;

// Reads the line number `index`; returns 0 if there is none.
static int read_gpu(long index, Gpu *gpu) {
    FILE *file = fopen(VALUES, "r");
    int found = 0;
    for (long line = 0; file && line <= index; line++)
        found = fscanf(file, "%63s %d %d %llu", gpu->uuid, &gpu->status, &gpu->utilization, &gpu->memory) == 4;
    if (file)
        fclose(file);
    return found;
}

static int query(void *device, Gpu *gpu) {
    if (!read_gpu((long)device - 1, gpu))
        return NOT_FOUND;
    while (gpu->status == HANGS)
        sleep(1);
    return gpu->status;
}

int nvmlInit_v2(void) {
    FILE *file = fopen(VALUES ".started", "w");
    if (file)
        fclose(file);
    return SUCCESS;
}

int nvmlShutdown(void) { return SUCCESS; }

int nvmlDeviceGetHandleByUUID(const char *uuid, void **device) {
    Gpu gpu;
    for (long index = 0; read_gpu(index, &gpu); index++) {
        if (strcmp(gpu.uuid, uuid) == 0) {
            *device = (void *)(index + 1);
            return SUCCESS;
        }
    }
    return NOT_FOUND;
}

int nvmlDeviceGetUtilizationRates(void *device, Utilization *rates) {
    Gpu gpu;
    int status = query(device, &gpu);
    if (status == SUCCESS && gpu.utilization < 0)
        return NOT_SUPPORTED;
    rates->gpu = gpu.utilization;
    return status;
}

int nvmlDeviceGetMemoryInfo_v2(void *device, Memory *memory) {
    Gpu gpu;
    int status = query(device, &gpu);
    memory->used = gpu.memory;
    return status;
}
