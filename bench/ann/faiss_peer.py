# faiss in its own process, one thread. Lines: {"build": family} -> {"cpuS", "tuned": [{"key", "setting", "recall"}]}; {"run": key, "from", "count"} -> {"cpuS", "hits"}.
# Arguments: folder of the data (data.ts), dims, k, target recall, queries to tune on. A family is tuned over a grid: the cheapest setting that reaches the target stays.
import json, os, sys
import faiss, numpy

folder, dims, k, target, tuning = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]), int(sys.argv[5])
faiss.omp_set_num_threads(1)
load = lambda name: numpy.fromfile(os.path.join(folder, name), dtype="f4")
rows, queries, bars = load("rows.f32").reshape(-1, dims), load("queries.f32").reshape(-1, dims), load("bars.f32")
tuned = {}


def cpu():
    times = os.times()
    return times.user + times.system


def run(index, parameters, first, count):
    found = []
    before = cpu()
    for i in range(first, first + count):
        found.append(index.search(queries[i : i + 1], k, params=parameters)[0][0])
    spent = cpu() - before
    return spent, int((numpy.array(found) >= bars[first : first + count, None] - 1e-5).sum())


def settings(family):
    probes = [64, 96, 128, 160, 192, 224, 256, 320, 384, 512]
    if family == "flat":
        for probe in probes:
            yield {"nprobe": probe}, faiss.SearchParametersIVF(nprobe=probe)
    elif family == "pq":
        for factor in [20, 30, 40, 60]:
            for probe in probes:
                yield {"nprobe": probe, "k_factor": factor}, faiss.IndexRefineSearchParameters(k_factor=factor, base_index_params=faiss.SearchParametersIVF(nprobe=probe))
    else:
        for ef in [256, 384, 512, 768, 1024, 1536]:
            yield {"efSearch": ef}, faiss.SearchParametersHNSW(efSearch=ef)


def build(key, family):
    before = cpu()
    index = faiss.index_factory(dims, key, faiss.METRIC_INNER_PRODUCT)
    if family == "graph":
        index.hnsw.efConstruction = 100
    index.train(rows)
    index.add(rows)
    spent = cpu() - before
    best = None
    factor = None
    for setting, parameters in settings(family):
        # Larger settings of a factor that reached the target only cost more.
        if factor is not None and setting.get("k_factor") == factor:
            continue
        seconds, hits = run(index, parameters, 0, tuning)
        if hits / tuning / k < target:
            continue
        factor = setting.get("k_factor")
        if best is None or seconds < best[0]:
            best = (seconds, setting, parameters, hits / tuning / k)
        if factor is None:
            break
    if best is not None:
        tuned[key] = (index, best[2])
    return {"key": key, "cpuS": spent, "setting": best and best[1], "recall": best and best[3], "tuningCpuS": best and best[0]}


for line in sys.stdin:
    question = json.loads(line)
    if "build" in question:
        answer = build(question["build"], question["family"])
    elif "drop" in question:
        tuned.pop(question["drop"], None)
        answer = {}
    else:
        index, parameters = tuned[question["run"]]
        spent, hits = run(index, parameters, question["from"], question["count"])
        answer = {"cpuS": spent, "hits": hits}
    print(json.dumps(answer), flush=True)
