# faiss's exact search in a process of its own, one thread: IndexFlatIP over rows.f32, queries of queries.f32 one by one and all together.
# Arguments: folder, dims, k, queries of a batch. Prints {"oneMs", "batchMs", "rows"}: least wall time of a query, of a batch by query, and the answers of the first query.
import json, os, sys, time
import faiss, numpy

folder, dims, k, together = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
faiss.omp_set_num_threads(1)
load = lambda name: numpy.fromfile(os.path.join(folder, name), dtype="f4").reshape(-1, dims)
rows, queries = load("rows.f32"), load("queries.f32")
index = faiss.IndexFlatIP(dims)
index.add(rows)


def least(rounds, call):
    times = []
    for round in range(rounds):
        before = time.perf_counter()
        call(round)
        times.append(time.perf_counter() - before)
    return min(times) * 1000


one = least(60, lambda round: index.search(queries[round % together : round % together + 1], k))
batch = least(10, lambda round: index.search(queries[:together], k)) / together
print(json.dumps({"oneMs": one, "batchMs": batch, "rows": index.search(queries[:1], k)[1][0].tolist()}))
