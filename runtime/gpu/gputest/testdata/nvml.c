// A libnvidia-ml.so.1 without a GPU: the functions of NVML that deepfn calls, answered from a
// file of text that lies beside the library and is read again in each call. doc.go of the
// package gputest says what a line of it means.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
	SUCCESS = 0, UNINITIALIZED = 1, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6,
	INSUFFICIENT_SIZE = 7, TIMEOUT = 10, GPU_IS_LOST = 15, UNKNOWN = 999,
	MAX = 64, TEXT = 96,
};

typedef unsigned long long u64;

struct memory { u64 total, free, used; };
struct pci { char legacy[16]; unsigned domain, bus, device, id, subsystem; char bus_id[32]; };
struct utilization { unsigned gpu, memory; };
struct process_v1 { unsigned pid; u64 used; };
struct process_v2 { unsigned pid; u64 used; unsigned gi, ci; };
struct event_data_v1 { void *device; u64 type, data; };
struct event_data_v2 { void *device; u64 type, data; unsigned gi, ci; };
struct attributes { unsigned multiprocessors, engines[5], gpu_slices, compute_slices; u64 memory_mb; };

struct gpu {
	char uuid[TEXT], name[TEXT], pci[TEXT];
	u64 total, used, ecc;
	int major, minor, architecture, utilization, temperature, power, limit, clock, mig, silent, lost_after;
};
struct mig { int gpu; char uuid[TEXT]; u64 total, used; unsigned gi, ci, gpu_slices, compute_slices; };
struct process { char uuid[TEXT]; int pid; u64 used; char kind; };
struct rule { char call[TEXT]; int code, gpu, after, hang; };
struct event { int seq, gpu; u64 type, data; unsigned gi, ci; };

static struct {
	long serial;
	char driver[TEXT];
	int cuda, gpus, migs, processes, rules, events;
	struct gpu gpu[MAX];
	struct mig mig[MAX];
	struct process process[MAX];
	struct rule rule[MAX];
	struct event event[MAX];
} state;

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static char slots[MAX][TEXT]; // a handle is the address of the UUID of its device
static long serial = -1;      // of the state that the counts are of
static int calls_of[MAX], uses_of[MAX], initialized, last_event;

static char *field(char **line) {
	char *text = strsep(line, "|\n");
	return text ? text : "";
}

static u64 number(char **line) { return strtoull(field(line), NULL, 10); }

static void copy(char *to, char **line) { snprintf(to, TEXT, "%s", field(line)); }

static void parse_gpu(char **line) {
	struct gpu *g = &state.gpu[state.gpus++];
	copy(g->uuid, line), copy(g->name, line), copy(g->pci, line);
	g->total = number(line), g->used = number(line), g->ecc = number(line);
	int *facts[] = {&g->major, &g->minor, &g->architecture, &g->utilization, &g->temperature, &g->power,
			&g->limit, &g->clock, &g->mig, &g->silent, &g->lost_after};
	for (unsigned i = 0; i < sizeof facts / sizeof *facts; i++)
		*facts[i] = (int)number(line);
}

static void parse_mig(char **line) {
	struct mig *m = &state.mig[state.migs++];
	m->gpu = (int)number(line);
	copy(m->uuid, line);
	m->total = number(line), m->used = number(line);
	m->gi = (unsigned)number(line), m->ci = (unsigned)number(line);
	m->gpu_slices = (unsigned)number(line), m->compute_slices = (unsigned)number(line);
}

static void parse_line(char *line) {
	char *kind = field(&line);
	if (!strcmp(kind, "serial")) {
		state.serial = (long)number(&line);
	} else if (!strcmp(kind, "driver")) {
		copy(state.driver, &line);
	} else if (!strcmp(kind, "cuda")) {
		state.cuda = (int)number(&line);
	} else if (!strcmp(kind, "gpu") && state.gpus < MAX) {
		parse_gpu(&line);
	} else if (!strcmp(kind, "mig") && state.migs < MAX) {
		parse_mig(&line);
	} else if (!strcmp(kind, "process") && state.processes < MAX) {
		struct process *p = &state.process[state.processes++];
		copy(p->uuid, &line);
		p->pid = (int)number(&line), p->used = number(&line), p->kind = *field(&line);
	} else if (!strcmp(kind, "rule") && state.rules < MAX) {
		struct rule *r = &state.rule[state.rules++];
		copy(r->call, &line);
		r->code = (int)number(&line), r->gpu = atoi(field(&line));
		r->after = (int)number(&line), r->hang = (int)number(&line);
	} else if (!strcmp(kind, "event") && state.events < MAX) {
		struct event *e = &state.event[state.events++];
		e->seq = (int)number(&line), e->gpu = (int)number(&line);
		e->type = number(&line), e->data = number(&line);
		e->gi = (unsigned)number(&line), e->ci = (unsigned)number(&line);
	}
}

static FILE *beside(const char *suffix, const char *mode) {
	static char anchor;
	Dl_info info;
	char path[4096];
	if (!dladdr(&anchor, &info))
		return NULL;
	snprintf(path, sizeof path, "%s%s", info.dli_fname, suffix);
	return fopen(path, mode);
}

static void load(void) {
	char line[1024];
	memset(&state, 0, sizeof state);
	FILE *f = beside(".state", "re");
	while (f && fgets(line, sizeof line, f))
		parse_line(line);
	if (f)
		fclose(f);
	if (state.serial == serial)
		return;
	serial = state.serial;
	memset(calls_of, 0, sizeof calls_of);
	memset(uses_of, 0, sizeof uses_of);
}

static int gpu_of(const char *uuid) {
	for (int i = 0; i < state.gpus; i++)
		if (!strcmp(state.gpu[i].uuid, uuid))
			return i;
	for (int i = 0; i < state.migs; i++)
		if (!strcmp(state.mig[i].uuid, uuid))
			return state.mig[i].gpu;
	return -1;
}

static struct gpu *gpu_at(void *handle) {
	for (int i = 0; i < state.gpus; i++)
		if (!strcmp(state.gpu[i].uuid, handle))
			return &state.gpu[i];
	return NULL;
}

static struct mig *mig_at(void *handle) {
	for (int i = 0; i < state.migs; i++)
		if (!strcmp(state.mig[i].uuid, handle))
			return &state.mig[i];
	return NULL;
}

static void *handle_of(const char *uuid) {
	for (int i = 0; i < MAX; i++) {
		if (!slots[i][0])
			snprintf(slots[i], TEXT, "%s", uuid);
		if (!strcmp(slots[i], uuid))
			return slots[i];
	}
	return NULL;
}

static void pause_for(int ms) {
	struct timespec t = {ms / 1000, ms % 1000 * 1000000L};
	nanosleep(&t, NULL);
}

static long now(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

// hang returns the milliseconds that a call has to wait, in a state that it reads for itself.
static int hang(const char *call) {
	int ms = 0;
	pthread_mutex_lock(&mutex);
	load();
	for (int i = 0; i < state.rules; i++)
		if (!strcmp(state.rule[i].call, call))
			ms += state.rule[i].hang;
	pthread_mutex_unlock(&mutex);
	return ms;
}

// enter begins a call: the state is read and the mutex held until leave. What it returns is the
// code that the call has to end with, if it is not zero.
static int enter(const char *call, void *handle) {
	int ms = hang(call);
	if (ms)
		pause_for(ms);
	pthread_mutex_lock(&mutex);
	load();
	int gpu = handle ? gpu_of(handle) : -1;
	for (int i = 0; i < state.rules; i++) {
		struct rule *r = &state.rule[i];
		if (strcmp(r->call, call) || (r->gpu >= 0 && r->gpu != gpu))
			continue;
		if (r->code && ++uses_of[i] > r->after)
			return r->code;
	}
#ifdef BROKEN
	return UNKNOWN;
#endif
	if (!initialized && strncmp(call, "nvmlInit", 8))
		return UNINITIALIZED;
	if (handle && gpu < 0)
		return GPU_IS_LOST;
	if (handle && state.gpu[gpu].lost_after && ++calls_of[gpu] >= state.gpu[gpu].lost_after)
		return GPU_IS_LOST;
	return SUCCESS;
}

static int leave(int code) {
	pthread_mutex_unlock(&mutex);
	return code;
}

// BEGIN and GPU open the body of a function; GPU of one that a MIG instance has no answer to.
#define BEGIN(handle) \
	int code = enter(__func__, handle); \
	if (code) \
		return leave(code)
#define GPU(handle) \
	BEGIN(handle); \
	struct gpu *g = gpu_at(handle); \
	if (!g || g->silent) \
		return leave(NOT_SUPPORTED)

int nvmlInit_v2(void) {
	BEGIN(NULL);
#ifdef MISMATCH
	return leave(18);
#endif
	initialized = 1;
	return leave(SUCCESS);
}

int nvmlInit(void) { return nvmlInit_v2(); }

int nvmlShutdown(void) {
	BEGIN(NULL);
	initialized = 0;
	return leave(SUCCESS);
}

const char *nvmlErrorString(int code) { return code ? "an error of the fake" : "fine"; }

int nvmlSystemGetDriverVersion(char *text, unsigned length) {
	BEGIN(NULL);
	snprintf(text, length, "%s", state.driver);
	return leave(SUCCESS);
}

int nvmlSystemGetCudaDriverVersion_v2(int *version) {
	BEGIN(NULL);
	*version = state.cuda;
	return leave(SUCCESS);
}

int nvmlSystemGetCudaDriverVersion(int *version) {
	BEGIN(NULL);
	*version = state.cuda;
	return leave(SUCCESS);
}

int nvmlDeviceGetCount_v2(unsigned *count) {
	BEGIN(NULL);
	*count = (unsigned)state.gpus;
	return leave(SUCCESS);
}

int nvmlDeviceGetCount(unsigned *count) { return nvmlDeviceGetCount_v2(count); }

int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **handle) {
	BEGIN(NULL);
	if (index >= (unsigned)state.gpus)
		return leave(INVALID_ARGUMENT);
	for (int i = 0; i < state.rules; i++)
		if (!strcmp(state.rule[i].call, "handle") && state.rule[i].gpu == (int)index)
			return leave(state.rule[i].code);
	*handle = handle_of(state.gpu[index].uuid);
	return leave(SUCCESS);
}

int nvmlDeviceGetHandleByIndex(unsigned index, void **handle) { return nvmlDeviceGetHandleByIndex_v2(index, handle); }

int nvmlDeviceGetUUID(void *handle, char *text, unsigned length) {
	BEGIN(handle);
	snprintf(text, length, "%s", (char *)handle);
	return leave(SUCCESS);
}

int nvmlDeviceGetName(void *handle, char *text, unsigned length) {
	BEGIN(handle);
	struct gpu *g = gpu_at(handle);
	if (!g)
		return leave(NOT_SUPPORTED);
	snprintf(text, length, "%s", g->name);
	return leave(SUCCESS);
}

int nvmlDeviceGetMemoryInfo(void *handle, struct memory *memory) {
	BEGIN(handle);
	struct gpu *g = gpu_at(handle);
	struct mig *m = mig_at(handle);
	memory->total = m ? m->total : g->total;
	memory->used = m ? m->used : g->used;
	memory->free = memory->total - memory->used;
	return leave(SUCCESS);
}

int nvmlDeviceGetArchitecture(void *handle, unsigned *architecture) {
	GPU(handle);
	*architecture = (unsigned)g->architecture;
	return leave(SUCCESS);
}

int nvmlDeviceGetPciInfo_v3(void *handle, struct pci *pci) {
	GPU(handle);
	snprintf(pci->bus_id, sizeof pci->bus_id, "%.31s", g->pci);
	snprintf(pci->legacy, sizeof pci->legacy, "%.15s", g->pci);
	return leave(SUCCESS);
}

int nvmlDeviceGetPciInfo_v2(void *handle, struct pci *pci) {
	GPU(handle);
	snprintf(pci->legacy, sizeof pci->legacy, "%.15s", g->pci);
	return leave(SUCCESS);
}

int nvmlDeviceGetPciInfo(void *handle, struct pci *pci) { return nvmlDeviceGetPciInfo_v2(handle, pci); }

int nvmlDeviceGetCudaComputeCapability(void *handle, int *major, int *minor) {
	GPU(handle);
	*major = g->major, *minor = g->minor;
	return leave(SUCCESS);
}

int nvmlDeviceGetUtilizationRates(void *handle, struct utilization *u) {
	GPU(handle);
	u->gpu = (unsigned)g->utilization, u->memory = 0;
	return leave(SUCCESS);
}

int nvmlDeviceGetTemperature(void *handle, int sensor, unsigned *degrees) {
	GPU(handle);
	if (sensor)
		return leave(INVALID_ARGUMENT);
	*degrees = (unsigned)g->temperature;
	return leave(SUCCESS);
}

int nvmlDeviceGetPowerUsage(void *handle, unsigned *milliwatts) {
	GPU(handle);
	*milliwatts = (unsigned)g->power;
	return leave(SUCCESS);
}

int nvmlDeviceGetEnforcedPowerLimit(void *handle, unsigned *milliwatts) {
	GPU(handle);
	*milliwatts = (unsigned)g->limit;
	return leave(SUCCESS);
}

int nvmlDeviceGetClockInfo(void *handle, int clock, unsigned *megahertz) {
	GPU(handle);
	if (clock != 1)
		return leave(INVALID_ARGUMENT);
	*megahertz = (unsigned)g->clock;
	return leave(SUCCESS);
}

int nvmlDeviceGetTotalEccErrors(void *handle, int kind, int counter, u64 *count) {
	GPU(handle);
	if (kind != 1 || counter != 0)
		return leave(INVALID_ARGUMENT);
	*count = g->ecc;
	return leave(SUCCESS);
}

int nvmlDeviceGetMigMode(void *handle, unsigned *current, unsigned *pending) {
	GPU(handle);
	*current = *pending = (unsigned)g->mig;
	return leave(SUCCESS);
}

int nvmlDeviceGetMaxMigDeviceCount(void *handle, unsigned *count) {
	GPU(handle);
	*count = g->mig ? 7 : 0;
	return leave(SUCCESS);
}

int nvmlDeviceGetMigDeviceHandleByIndex(void *handle, unsigned index, void **mig) {
	GPU(handle);
	for (int i = 0; i < state.migs; i++)
		if (&state.gpu[state.mig[i].gpu] == g && !index--) {
			*mig = handle_of(state.mig[i].uuid);
			return leave(SUCCESS);
		}
	return leave(NOT_FOUND);
}

int nvmlDeviceGetAttributes_v2(void *handle, struct attributes *a) {
	BEGIN(handle);
	struct mig *m = mig_at(handle);
	if (!m)
		return leave(NOT_SUPPORTED);
	memset(a, 0, sizeof *a);
	a->gpu_slices = m->gpu_slices, a->compute_slices = m->compute_slices;
	a->memory_mb = m->total >> 20;
	return leave(SUCCESS);
}

int nvmlDeviceGetGpuInstanceId(void *handle, unsigned *id) {
	BEGIN(handle);
	struct mig *m = mig_at(handle);
	if (!m)
		return leave(NOT_SUPPORTED);
	*id = m->gi;
	return leave(SUCCESS);
}

int nvmlDeviceGetComputeInstanceId(void *handle, unsigned *id) {
	BEGIN(handle);
	struct mig *m = mig_at(handle);
	if (!m)
		return leave(NOT_SUPPORTED);
	*id = m->ci;
	return leave(SUCCESS);
}

// processes lists those of one kind, into records of one of the two layouts.
static int processes(void *handle, char kind, unsigned *count, void *infos, int old) {
	unsigned found = 0;
	for (int i = 0; i < state.processes; i++) {
		struct process *p = &state.process[i];
		if (p->kind != kind || strcmp(p->uuid, handle))
			continue;
		if (found < *count && old)
			((struct process_v1 *)infos)[found] = (struct process_v1){(unsigned)p->pid, p->used};
		else if (found < *count)
			((struct process_v2 *)infos)[found] = (struct process_v2){(unsigned)p->pid, p->used, ~0u, ~0u};
		found++;
	}
	int code = found > *count ? INSUFFICIENT_SIZE : SUCCESS;
	*count = found;
	return code;
}

#define PROCESSES(name, kind) \
	int name##_v3(void *handle, unsigned *count, void *infos) { \
		BEGIN(handle); \
		return leave(processes(handle, kind, count, infos, 0)); \
	} \
	int name##_v2(void *handle, unsigned *count, void *infos) { \
		BEGIN(handle); \
		return leave(processes(handle, kind, count, infos, 0)); \
	} \
	int name(void *handle, unsigned *count, void *infos) { \
		BEGIN(handle); \
		return leave(processes(handle, kind, count, infos, 1)); \
	}

PROCESSES(nvmlDeviceGetComputeRunningProcesses, 'C')
PROCESSES(nvmlDeviceGetGraphicsRunningProcesses, 'G')
PROCESSES(nvmlDeviceGetMPSComputeRunningProcesses, 'M')

int nvmlEventSetCreate(void **set) {
	BEGIN(NULL);
	*set = slots;
	return leave(SUCCESS);
}

int nvmlEventSetFree(void *set) {
	(void)set;
	BEGIN(NULL);
	return leave(SUCCESS);
}

int nvmlDeviceGetSupportedEventTypes(void *handle, u64 *types) {
	BEGIN(handle);
	*types = 0xb;
	return leave(SUCCESS);
}

int nvmlDeviceRegisterEvents(void *handle, u64 types, void *set) {
	(void)set;
	BEGIN(handle);
	return leave(types & ~0xbull ? NOT_SUPPORTED : SUCCESS);
}

// next_event waits for an event that nobody was given, for so many milliseconds.
static int next_event(const char *call, struct event *event, void **device, unsigned timeout) {
	for (long until = now() + timeout;;) {
		int code = enter(call, NULL);
		if (code)
			return leave(code);
		for (int i = 0; i < state.events; i++) {
			struct event *e = &state.event[i];
			if (e->seq <= last_event || e->gpu >= state.gpus)
				continue;
			last_event = e->seq;
			*event = *e;
			*device = handle_of(state.gpu[e->gpu].uuid);
			return leave(SUCCESS);
		}
		leave(SUCCESS);
		if (now() >= until)
			return TIMEOUT;
		pause_for(5);
	}
}

int nvmlEventSetWait_v2(void *set, struct event_data_v2 *data, unsigned timeout) {
	(void)set;
	struct event e;
	int code = next_event(__func__, &e, &data->device, timeout);
	if (code == SUCCESS)
		data->type = e.type, data->data = e.data, data->gi = e.gi, data->ci = e.ci;
	return code;
}

int nvmlEventSetWait(void *set, struct event_data_v1 *data, unsigned timeout) {
	(void)set;
	struct event e;
	int code = next_event(__func__, &e, &data->device, timeout);
	if (code == SUCCESS)
		data->type = e.type, data->data = e.data;
	return code;
}
