// SPDX-License-Identifier: Apache-2.0
// Section: Probes
// Samples are described by a suture_samples: a dense matrix, sparse codes or compressed sparse rows.
// Messages call them x. Labels are whole numbers from 0 to classes - 1.
import CSutureTypes
import Suture

final class ProbeBox: HandleBox {
    var probe: Probe
    init(_ probe: Probe) { self.probe = probe }
}

func probe(_ handle: UnsafePointer<suture_probe>?, _ name: String = "probe") throws -> ProbeBox {
    try object(handle, name, as: ProbeBox.self)
}

private func options(_ pointer: UnsafePointer<suture_probe_config>?) throws -> ProbeOptions {
    let config = try config(pointer, "config", defaults: suture_probe_config())
    var options = ProbeOptions()
    if config.C != 0 { options.C = config.C }
    if config.tolerance != 0 { options.tolerance = config.tolerance }
    if config.max_iterations != 0 { options.maxIterations = Int(config.max_iterations) }
    for (name, value) in [("standardize", config.standardize), ("balanced", config.balanced)] {
        guard value == 0 || value == 1 else {
            throw SutureError.invalidArgument("config->\(name) is \(value), expected 0 or 1")
        }
    }
    options.standardises = config.standardize == 1
    options.balances = config.balanced == 1
    return options
}

private func classCount(_ classes: Int64) throws -> Int {
    guard classes >= 2, classes <= 1 << 20 else {
        throw SutureError.invalidArgument("classes is \(classes), expected 2 to \(1 << 20)")
    }
    return Int(classes)
}

extension suture_probe_report {
    fileprivate init(_ report: ProbeReport) {
        self.init()
        objective = report.objective
        gradient_norm = report.gradientNorm
        seconds = report.seconds
        iterations = Int32(clamping: report.iterations)
        converged = report.converged ? 1 : 0
    }
}

/// Logistic regression on all features: minimises 0.5 |w|^2 + C sum of weight log(1 + exp(-margin)),
/// the intercept free. Two classes give one output, above 0 for class 1; more give one a class, each
/// against the rest. Solved to the minimum by Newton steps in float64, float32 weights; the same
/// samples give the same bits for any number of threads.
///
/// sample_weight (N) may be NULL for 1 each. report (NULL for none; set report->struct_size first) gets
/// what was done. Not reaching the tolerance is no error. Progress is in outputs done. *out is the
/// caller's, to be released with suture_probe_destroy(); its classes are called 0, 1, ….
///
/// Errors: SUTURE_ERROR_INVALID_ARGUMENT for settings out of range, a label out of range, a class without
/// samples of weight above 0, a weight that is negative or not finite, or a number that is not finite;
/// SUTURE_ERROR_NUMERICAL for weights beyond float32; SUTURE_ERROR_CANCELLED; SUTURE_ERROR_OUT_OF_MEMORY.
@c
public func suture_probe_fit(
    _ samples: UnsafePointer<suture_samples>?, _ labels: UnsafePointer<Int32>?, _ classes: Int64,
    _ sample_weight: UnsafePointer<Double>?, _ config: UnsafePointer<suture_probe_config>?,
    _ progress: UnsafePointer<suture_progress>?, _ out: UnsafeMutablePointer<UnsafeMutablePointer<suture_probe>?>?,
    _ report: UnsafeMutablePointer<suture_probe_report>?
) -> suture_status {
    boundary {
        let samples = try SutureABI.samples(samples)
        let options = try options(config)
        let out = try required(out, "out")
        if let report { try structSize(UnsafeRawPointer(report), "report", of: suture_probe_report.self) }
        let targets = try Probe.Targets(
            samples: samples.rows, labels: try required(labels, "labels"), classes: try classCount(classes),
            weights: sample_weight)
        let found = try Probe.fit(samples, targets, options: options, progress: SutureABI.progress(progress))
        if let report { try writeReport(suture_probe_report(found.report), to: report, "report") }
        out.pointee = makeHandle(ProbeBox(found.probe), as: suture_probe.self)
    }
}

/// Sparse probes: fits to the first sizes[0], sizes[1], … of `features` (columns, best first, as
/// suture_features_select() finds them), all other weights 0. Sizes ascend; each fit begins where the
/// one before ended, which makes a sweep cheap.
///
/// out and report (NULL for none; set the struct_size of each) have size_count elements; each probe is
/// the caller's.
///
/// Errors: as suture_probe_fit(), and SUTURE_ERROR_INVALID_ARGUMENT for a feature that is no column or
/// stands twice, or sizes that do not ascend from at least 1 to at most feature_count.
@c
public func suture_probe_fit_sparse(
    _ samples: UnsafePointer<suture_samples>?, _ labels: UnsafePointer<Int32>?, _ classes: Int64,
    _ sample_weight: UnsafePointer<Double>?, _ features: UnsafePointer<Int64>?, _ feature_count: Int64,
    _ sizes: UnsafePointer<Int64>?, _ size_count: Int64, _ config: UnsafePointer<suture_probe_config>?,
    _ progress: UnsafePointer<suture_progress>?, _ out: UnsafeMutablePointer<UnsafeMutablePointer<suture_probe>?>?,
    _ report: UnsafeMutablePointer<suture_probe_report>?
) -> suture_status {
    boundary {
        let samples = try SutureABI.samples(samples)
        let options = try options(config)
        let out = try required(out, "out")
        func numbers(_ pointer: UnsafePointer<Int64>?, _ count: Int64, _ name: String) throws -> [Int] {
            guard count >= 1, count <= Int64(samples.cols) else {
                throw SutureError.invalidArgument("\(name) has \(count) elements, expected 1 to \(samples.cols)")
            }
            return UnsafeBufferPointer(start: try required(pointer, name), count: Int(count)).map { Int($0) }
        }
        let features = try numbers(features, feature_count, "features")
        let sizes = try numbers(sizes, size_count, "sizes")
        for i in sizes.indices {
            if let report { try structSize(UnsafeRawPointer(report + i), "report", of: suture_probe_report.self) }
        }
        let targets = try Probe.Targets(
            samples: samples.rows, labels: try required(labels, "labels"), classes: try classCount(classes),
            weights: sample_weight)
        let found = try Probe.fit(
            samples, targets, features: features, sizes: sizes, options: options,
            progress: SutureABI.progress(progress))
        for (i, fit) in found.enumerated() {
            if let report { try writeReport(suture_probe_report(fit.report), to: report + i, "report") }
            out[i] = makeHandle(ProbeBox(fit.probe), as: suture_probe.self)
        }
    }
}

/// The k features whose mean differs most between the classes, best first, equal ones by the lower
/// index, to out (k). With more than two classes a feature counts for the class that it tells best from
/// the rest: the largest over classes of |mean in the class - mean in the rest|.
///
/// Errors: SUTURE_ERROR_INVALID_ARGUMENT for k beyond the features, a label out of range, a class
/// without samples, or a number that is not finite; SUTURE_ERROR_CANCELLED; SUTURE_ERROR_OUT_OF_MEMORY.
@c
public func suture_features_select(
    _ samples: UnsafePointer<suture_samples>?, _ labels: UnsafePointer<Int32>?, _ classes: Int64, _ k: Int64,
    _ progress: UnsafePointer<suture_progress>?, _ out: UnsafeMutablePointer<Int64>?
) -> suture_status {
    boundary {
        let samples = try SutureABI.samples(samples)
        let out = try required(out, "out")
        let found = try FeatureSelection.byMeanDifference(
            samples, labels: try required(labels, "labels"), classes: try classCount(classes), k: Int(k),
            progress: SutureABI.progress(progress))
        for (i, feature) in found.enumerated() { out[i] = Int64(feature) }
    }
}

/// A probe from weights (outputs, d_in) and bias (1, outputs), of any element types; they are copied,
/// as float32. One output stands for two classes, else there is one a class. classes is a JSON array
/// with the labels of the classes (texts, numbers or truth values), or NULL for 0, 1, ….
///
/// *out is the caller's, to be released with suture_probe_destroy().
///
/// Errors: SUTURE_ERROR_INVALID_ARGUMENT for shapes or classes that do not fit together, or a value that
/// is not finite; SUTURE_ERROR_OUT_OF_MEMORY.
@c
public func suture_probe_create(
    _ weights: UnsafePointer<suture_matrix>?, _ bias: UnsafePointer<suture_matrix>?,
    _ classes: UnsafePointer<CChar>?, _ out: UnsafeMutablePointer<UnsafeMutablePointer<suture_probe>?>?
) -> suture_status {
    boundary {
        let out = try required(out, "out")
        let matrix = try matrix(weights, "weights")
        let vector = try SutureABI.matrix(bias, "bias", rows: (1, "1"), cols: (matrix.rows, "the rows of weights"))
        var labels: [JSON]?
        if classes != nil {
            let text = try string(classes, "classes")
            do {
                guard case .array(let values) = try JSON(parsing: text, name: "classes") else {
                    throw SutureError.invalidArgument("classes is \(text), expected a JSON array")
                }
                labels = values
            } catch SutureError.format(let message) {
                throw SutureError.invalidArgument("\(message), expected a JSON array")
            }
        }
        func owned(_ view: MatrixView, _ name: String) throws -> FloatMatrix {
            try requireFinite(view, name)
            return try FloatMatrix(rows: view.rows, cols: view.cols) { view.read(into: $0) }
        }
        let probe = try Probe(weights: try owned(matrix, "weights"), bias: try owned(vector, "bias"), classes: labels)
        out.pointee = makeHandle(ProbeBox(probe), as: suture_probe.self)
    }
}

/// The sizes of a probe. Each out-pointer may be NULL.
@c
public func suture_probe_info(
    _ probe: UnsafePointer<suture_probe>?, _ outputs: UnsafeMutablePointer<Int64>?,
    _ d_in: UnsafeMutablePointer<Int64>?
) -> suture_status {
    boundary {
        let probe = try SutureABI.probe(probe).probe
        outputs?.pointee = Int64(probe.outputs)
        d_in?.pointee = Int64(probe.dIn)
    }
}

/// The labels of the classes as a JSON array. *size is the number of bytes with the final NUL; with
/// json NULL, only *size is written.
///
/// Errors: SUTURE_ERROR_INVALID_ARGUMENT if capacity is below *size; nothing is written but *size.
@c
public func suture_probe_classes(
    _ probe: UnsafePointer<suture_probe>?, _ json: UnsafeMutablePointer<CChar>?, _ capacity: UInt64,
    _ size: UnsafeMutablePointer<UInt64>?
) -> suture_status {
    boundary {
        let classes = try SutureABI.probe(probe).probe.classes
        try writeText(JSON.array(classes).text(), to: json, capacity: capacity, size: size)
    }
}

/// A view of weights or bias, float32, in the probe's own memory: read it only, and only while the
/// probe lives.
///
/// Errors: SUTURE_ERROR_INVALID_ARGUMENT for an unknown weight.
@c
public func suture_probe_weight(
    _ probe: UnsafePointer<suture_probe>?, _ which: suture_probe_weight_name,
    _ out: UnsafeMutablePointer<suture_matrix>?
) -> suture_status {
    boundary {
        let probe = try SutureABI.probe(probe).probe
        let out = try required(out, "out")
        let weight: FloatMatrix
        switch which {
        case SUTURE_PROBE_WEIGHTS: weight = probe.weights
        case SUTURE_PROBE_BIAS: weight = probe.bias
        default:
            throw SutureError.invalidArgument(
                "which is \(which.rawValue), expected SUTURE_PROBE_WEIGHTS or SUTURE_PROBE_BIAS")
        }
        out.pointee = suture_matrix(
            data: UnsafeMutableRawPointer(mutating: weight.pointer), rows: Int64(weight.rows), cols: Int64(weight.cols),
            row_stride: Int64(weight.cols), dtype: SUTURE_FLOAT32)
    }
}

/// Writes the logits of N samples, x weights^T + bias, summed in float64, to out (N, outputs), float32.
///
/// Errors: SUTURE_ERROR_INVALID_ARGUMENT for another width or a number that is not finite;
/// SUTURE_ERROR_NUMERICAL for a logit beyond float32; SUTURE_ERROR_CANCELLED. In the last three cases
/// out may be partly written.
@c
public func suture_probe_logits(
    _ probe: UnsafePointer<suture_probe>?, _ samples: UnsafePointer<suture_samples>?,
    _ progress: UnsafePointer<suture_progress>?, _ out: UnsafePointer<suture_matrix>?
) -> suture_status {
    boundary {
        let probe = try SutureABI.probe(probe).probe
        let samples = try SutureABI.samples(samples, cols: (probe.dIn, "d_in"))
        let target = try outputMatrix(
            out, "out", rows: (samples.rows, "the rows of x"), cols: (probe.outputs, "the outputs of the probe"))
        try probe.logits(
            samples, into: target.base, rowStride: target.rowStride, progress: SutureABI.progress(progress))
    }
}

/// What is known about where the probe comes from, as a JSON object: model_name, hook_name, …, with
/// names as in a SAE's metadata. *size is the number of bytes with the final NUL; with json NULL, only
/// *size is written.
///
/// Errors: SUTURE_ERROR_INVALID_ARGUMENT if capacity is below *size; nothing is written but *size.
@c
public func suture_probe_metadata(
    _ probe: UnsafePointer<suture_probe>?, _ json: UnsafeMutablePointer<CChar>?, _ capacity: UInt64,
    _ size: UnsafeMutablePointer<UInt64>?
) -> suture_status {
    boundary {
        try writeText(try SutureABI.probe(probe).probe.metadata.text(), to: json, capacity: capacity, size: size)
    }
}

/// Replaces the metadata with a JSON object. Not for use at the same time as another call on the same
/// probe.
///
/// Errors: SUTURE_ERROR_INVALID_ARGUMENT if json is no JSON object in UTF-8; then nothing has changed.
@c
public func suture_probe_set_metadata(
    _ probe: UnsafeMutablePointer<suture_probe>?, _ json: UnsafePointer<CChar>?
) -> suture_status {
    boundary {
        let box = try SutureABI.probe(probe.map { UnsafePointer($0) })
        box.probe.metadata = try metadata(json, "json")
    }
}

/// Writes the probe to one .safetensors file: tensors weights and bias, its classes and metadata. The
/// file appears whole or not at all; an existing one is replaced.
///
/// Errors: SUTURE_ERROR_IO.
@c
public func suture_probe_save(_ probe: UnsafePointer<suture_probe>?, _ path: UnsafePointer<CChar>?) -> suture_status {
    boundary { try SutureABI.probe(probe).probe.save(to: try string(path, "path")) }
}

/// Reads a probe that suture_probe_save() wrote, or any .safetensors file with those two tensors in a
/// floating-point type.
///
/// *out is the caller's, to be released with suture_probe_destroy().
///
/// Errors: SUTURE_ERROR_IO if the file cannot be read, SUTURE_ERROR_FORMAT if it is not such a file,
/// SUTURE_ERROR_OUT_OF_MEMORY.
@c
public func suture_probe_load(
    _ path: UnsafePointer<CChar>?, _ out: UnsafeMutablePointer<UnsafeMutablePointer<suture_probe>?>?
) -> suture_status {
    boundary {
        let out = try required(out, "out")
        out.pointee = makeHandle(ProbeBox(try Probe(contentsOf: try string(path, "path"))), as: suture_probe.self)
    }
}

/// Releases a probe. Accepts NULL. Views of its weights are no longer valid.
@c
public func suture_probe_destroy(_ probe: UnsafeMutablePointer<suture_probe>?) { destroyHandle(probe) }

/// Carries a probe of one model to the other: upwards, with the probe of model A, to one of model B
/// such that probe'(h) = probe(down(h)), exact up to rounding; SUTURE_DOWN the other way round. *out is
/// the caller's, to be released with suture_probe_destroy(); neither stitch nor probe changes. The
/// metadata changes as that of a SAE does, and site is as for suture_stitch_transfer_sae().
///
/// Errors: SUTURE_ERROR_INVALID_ARGUMENT for an unknown direction, sizes that do not match, or a model,
/// layer or stream that is not the stitch's, as there; SUTURE_ERROR_NUMERICAL for weights beyond
/// float32; SUTURE_ERROR_OUT_OF_MEMORY.
@c
public func suture_stitch_transfer_probe(
    _ stitch: UnsafePointer<suture_stitch>?, _ probe: UnsafePointer<suture_probe>?, _ direction: suture_direction,
    _ site: UnsafePointer<suture_site>?, _ out: UnsafeMutablePointer<UnsafeMutablePointer<suture_probe>?>?
) -> suture_status {
    boundary {
        let stitch = try SutureABI.stitch(stitch).stitch
        let probe = try SutureABI.probe(probe).probe
        let direction = try SutureABI.direction(direction)
        let site = try optionalSite(site, "site")
        let out = try required(out, "out")
        let moved = try stitch.transfer(probe, direction: direction, site: site)
        out.pointee = makeHandle(ProbeBox(moved), as: suture_probe.self)
    }
}

private func pooling(_ sample: UnsafePointer<Int64>?, rows: Int, samples: Int64) throws -> Pooling {
    guard samples >= 1, samples <= Int64(rows) else {
        throw SutureError.invalidArgument("samples is \(samples), expected 1 to \(rows), the number of rows")
    }
    return try Pooling(
        samples: Int(samples), sample: UnsafeBufferPointer(start: try required(sample, "sample"), count: rows))
}

/// Means over the tokens of each sample, to out (samples, d), float32. The tokens are the rows of all
/// shard_count matrices of `shards` (each (N, d), of any element type); sample has the sample of each of
/// them, 0 to samples - 1, or a negative number for tokens to leave out. Sums are in float64, in the
/// order of the rows.
///
/// Errors: SUTURE_ERROR_INVALID_ARGUMENT for a sample out of range or without tokens, or a number that is
/// not finite (out may be partly written then); SUTURE_ERROR_CANCELLED; SUTURE_ERROR_OUT_OF_MEMORY.
@c
public func suture_pool(
    _ shards: UnsafePointer<suture_matrix>?, _ shard_count: Int64, _ sample: UnsafePointer<Int64>?, _ samples: Int64,
    _ progress: UnsafePointer<suture_progress>?, _ out: UnsafePointer<suture_matrix>?
) -> suture_status {
    boundary {
        guard shard_count < 1 || shards != nil else {
            throw SutureError.invalidArgument("shards is NULL, expected \(shard_count) matrices")
        }
        let cols = shard_count < 1 ? 1 : try matrix(shards, "shards[0]").cols
        let views = try matrices(shards, shard_count, cols: (cols, "that of shards[0]"))
        let rows = views.reduce(0) { $0 + $1.rows }
        let pooling = try pooling(sample, rows: rows, samples: samples)
        let target = try outputMatrix(out, "out", rows: (pooling.samples, "samples"), cols: (cols, "that of shards[0]"))
        try pooling.mean(views, into: target.base, rowStride: target.rowStride, progress: SutureABI.progress(progress))
    }
}

/// The same for sparse codes: the result has for each sample every latent that is active on any of its
/// tokens, with its mean. *out is the caller's, to be released with suture_codes_destroy().
///
/// Errors: SUTURE_ERROR_INVALID_ARGUMENT for a sample out of range or without tokens;
/// SUTURE_ERROR_CANCELLED; SUTURE_ERROR_OUT_OF_MEMORY.
@c
public func suture_codes_pool(
    _ codes: UnsafePointer<suture_codes>?, _ sample: UnsafePointer<Int64>?, _ samples: Int64,
    _ progress: UnsafePointer<suture_progress>?, _ out: UnsafeMutablePointer<UnsafeMutablePointer<suture_codes>?>?
) -> suture_status {
    boundary {
        let codes = try SutureABI.codes(codes)
        let out = try required(out, "out")
        let pooling = try pooling(sample, rows: codes.rows, samples: samples)
        out.pointee = makeHandle(
            CodesBox(try pooling.mean(codes, progress: SutureABI.progress(progress))), as: suture_codes.self)
    }
}
