// SPDX-License-Identifier: Apache-2.0
// Section: Feature analysis
// What features do to logits, and when they fire. An unembedding is W_U of the model transposed,
// (vocabulary, d), one row a token: as the weight of the output head lies in most models. The logit
// weights of feature i are v_i = W_dec[i] W_U. A latent is active on a token where the codes have a
// slot for it.
import CSutureTypes
import Suture

final class AttributionBox: HandleBox {
    private let state: Changing<AttributionCorrelation>
    var attribution: AttributionCorrelation { state.value }

    init(_ attribution: AttributionCorrelation) { state = Changing(attribution, name: "attribution") }

    func change(_ body: (inout AttributionCorrelation) throws -> Void) throws { try state.change(body) }
}

private func attribution(_ handle: UnsafePointer<suture_attribution>?, _ name: String = "attribution") throws
    -> AttributionBox
{
    try object(handle, name, as: AttributionBox.self)
}

/// Begins attribution correlations (arXiv 2506.06609, eq. 10) of two SAEs with as many latents each:
/// decoders W_dec_a (d_sae, d_a) and W_dec_b (d_sae, d_b), unembeddings (vocabulary, d_a) and
/// (vocabulary, d_b) over the same tokens. All four are copied. *out is the caller's, to be released
/// with suture_attribution_destroy().
///
/// Errors: SUTURE_ERROR_INVALID_ARGUMENT for other shapes, such as vocabularies that differ, or a
/// number that is not finite; SUTURE_ERROR_OUT_OF_MEMORY.
@c
public func suture_attribution_create(
    _ W_dec_a: UnsafePointer<suture_matrix>?, _ unembedding_a: UnsafePointer<suture_matrix>?,
    _ W_dec_b: UnsafePointer<suture_matrix>?, _ unembedding_b: UnsafePointer<suture_matrix>?,
    _ out: UnsafeMutablePointer<UnsafeMutablePointer<suture_attribution>?>?
) -> suture_status {
    boundary {
        let out = try required(out, "out")
        let views = (
            try matrix(W_dec_a, "W_dec_a"), try matrix(unembedding_a, "unembedding_a"),
            try matrix(W_dec_b, "W_dec_b"), try matrix(unembedding_b, "unembedding_b")
        )
        let a = try LogitSide(decoder: views.0, unembedding: views.1, names: ("W_dec_a", "unembedding_a"))
        let b = try LogitSide(decoder: views.2, unembedding: views.3, names: ("W_dec_b", "unembedding_b"))
        let made = try AttributionCorrelation(a: a, b: b)
        out.pointee = makeHandle(AttributionBox(made), as: suture_attribution.self)
    }
}

/// Adds tokens: row t of codes_a and of codes_b belong to the same token, and next_tokens[t] is the
/// token that follows it in its text, or negative where none does: such rows do not count. count is
/// the number of next_tokens. The same calls give the same bits for any number of threads. On any
/// error, cancelling included, the correlations are as they were before the call.
///
/// Errors: SUTURE_ERROR_INVALID_ARGUMENT for codes of another d_sae or number of rows, or a token
/// beyond the vocabulary; SUTURE_ERROR_NUMERICAL where a logit weight is beyond float32;
/// SUTURE_ERROR_CANCELLED; SUTURE_ERROR_OUT_OF_MEMORY.
@c
public func suture_attribution_update(
    _ attribution: UnsafeMutablePointer<suture_attribution>?, _ codes_a: UnsafePointer<suture_codes>?,
    _ codes_b: UnsafePointer<suture_codes>?, _ next_tokens: UnsafePointer<Int64>?, _ count: Int64,
    _ progress: UnsafePointer<suture_progress>?
) -> suture_status {
    boundary {
        let box = try SutureABI.attribution(attribution.map { UnsafePointer($0) })
        let (a, b) = (try codes(codes_a, "codes_a"), try codes(codes_b, "codes_b"))
        let next = UnsafeBufferPointer(
            start: try required(next_tokens, "next_tokens"), count: try counted(count, "count"))
        try box.change { try $0.update(a: a, b: b, nextTokens: next, progress: SutureABI.progress(progress)) }
    }
}

/// Adds the tokens that other has seen, as if one pass had seen both, up to rounding. other stays as
/// it is; it should have been made from the same weights, of which only the sizes are compared.
///
/// Errors: SUTURE_ERROR_INVALID_ARGUMENT if the sizes differ, SUTURE_ERROR_OUT_OF_MEMORY; then nothing
/// has changed.
@c
public func suture_attribution_merge(
    _ attribution: UnsafeMutablePointer<suture_attribution>?, _ other: UnsafePointer<suture_attribution>?
) -> suture_status {
    boundary {
        let box = try SutureABI.attribution(attribution.map { UnsafePointer($0) })
        let added = try SutureABI.attribution(other, "other").attribution
        try box.change { try $0.merge(added) }
    }
}

/// For each feature the correlation, NaN where a side never varied, and the tokens with a next token
/// that it was active on in A and in B: (d_sae) each; and the number of all tokens with a next token.
/// Each out-pointer may be NULL.
@c
public func suture_attribution_read(
    _ attribution: UnsafePointer<suture_attribution>?, _ correlation: UnsafeMutablePointer<Double>?,
    _ active_a: UnsafeMutablePointer<UInt64>?, _ active_b: UnsafeMutablePointer<UInt64>?,
    _ tokens: UnsafeMutablePointer<UInt64>?
) -> suture_status {
    boundary {
        let attribution = try SutureABI.attribution(attribution).attribution
        if let correlation { write(attribution.correlations(), to: correlation) }
        let active = attribution.activeTokens()
        if let active_a { write(active.a, to: active_a) }
        if let active_b { write(active.b, to: active_b) }
        tokens?.pointee = UInt64(attribution.tokens)
    }
}

/// Releases attribution correlations. Accepts NULL.
@c
public func suture_attribution_destroy(_ attribution: UnsafeMutablePointer<suture_attribution>?) {
    destroyHandle(attribution)
}

final class StructuralBox: HandleBox {
    private let state: Changing<StructuralScore>
    var score: StructuralScore { state.value }

    init(_ score: StructuralScore) { state = Changing(score, name: "structural") }

    func change(_ body: (inout StructuralScore) throws -> Void) throws { try state.change(body) }
}

private func structural(_ handle: UnsafePointer<suture_structural>?) throws -> StructuralBox {
    try object(handle, "structural", as: StructuralBox.self)
}

/// Begins structural scores: for each feature the number of sentences in which it is active in all of
/// the sentence's variants, divided by the number in which it is active in any. *out is the caller's,
/// to be released with suture_structural_destroy().
///
/// Errors: SUTURE_ERROR_INVALID_ARGUMENT for a d_sae out of range, SUTURE_ERROR_OUT_OF_MEMORY.
@c
public func suture_structural_create(
    _ d_sae: Int64, _ out: UnsafeMutablePointer<UnsafeMutablePointer<suture_structural>?>?
) -> suture_status {
    boundary {
        let out = try required(out, "out")
        out.pointee = makeHandle(
            StructuralBox(try StructuralScore(dSAE: Int(d_sae))), as: suture_structural.self)
    }
}

/// Adds sentences of `variants` texts each (at least 2, the sentence itself counted), one after the
/// other: lengths[j] is the number of tokens of text j, and codes has the rows of all texts in order.
/// A text may have no tokens: then no feature is active in all variants of its sentence. On any error
/// the scores are as they were before the call.
///
/// Errors: SUTURE_ERROR_INVALID_ARGUMENT for codes of another d_sae, lengths that do not add up to the
/// rows of codes, or text_count not a multiple of variants; SUTURE_ERROR_CANCELLED;
/// SUTURE_ERROR_OUT_OF_MEMORY.
@c
public func suture_structural_update(
    _ structural: UnsafeMutablePointer<suture_structural>?, _ codes: UnsafePointer<suture_codes>?,
    _ lengths: UnsafePointer<Int64>?, _ text_count: Int64, _ variants: Int64,
    _ progress: UnsafePointer<suture_progress>?
) -> suture_status {
    boundary {
        let box = try SutureABI.structural(structural.map { UnsafePointer($0) })
        let codes = try SutureABI.codes(codes)
        let texts = UnsafeBufferPointer(
            start: try required(lengths, "lengths"), count: try counted(text_count, "text_count"))
        try box.change {
            try $0.update(codes, lengths: texts, variants: Int(variants), progress: SutureABI.progress(progress))
        }
    }
}

/// For each feature its score, NaN where it was never active, and the numbers of sentences that it was
/// active in all variants of, and in any: (d_sae) each; and the number of sentences. Each out-pointer
/// may be NULL.
@c
public func suture_structural_read(
    _ structural: UnsafePointer<suture_structural>?, _ score: UnsafeMutablePointer<Double>?,
    _ in_all: UnsafeMutablePointer<UInt64>?, _ in_any: UnsafeMutablePointer<UInt64>?,
    _ sentences: UnsafeMutablePointer<UInt64>?
) -> suture_status {
    boundary {
        let value = try SutureABI.structural(structural).score
        if let score { write(value.scores(), to: score) }
        if let in_all { write(value.inAll, to: in_all) }
        if let in_any { write(value.inAny, to: in_any) }
        sentences?.pointee = UInt64(value.sentences)
    }
}

/// Releases structural scores. Accepts NULL.
@c
public func suture_structural_destroy(_ structural: UnsafeMutablePointer<suture_structural>?) {
    destroyHandle(structural)
}

final class FeatureStatisticsBox: HandleBox {
    private let state: Changing<FeatureStatistics>
    var statistics: FeatureStatistics { state.value }

    init(_ statistics: FeatureStatistics) { state = Changing(statistics, name: "statistics") }

    func change(_ body: (inout FeatureStatistics) throws -> Void) throws { try state.change(body) }
}

private func statistics(_ handle: UnsafePointer<suture_feature_statistics>?) throws -> FeatureStatisticsBox {
    try object(handle, "statistics", as: FeatureStatisticsBox.self)
}

/// Begins statistics of features over a stream of codes, with the `top` tokens (0 to 10000) on which
/// each is most active. *out is the caller's, to be released with suture_feature_statistics_destroy().
///
/// Errors: SUTURE_ERROR_INVALID_ARGUMENT for a number out of range, SUTURE_ERROR_OUT_OF_MEMORY.
@c
public func suture_feature_statistics_create(
    _ d_sae: Int64, _ top: Int64, _ out: UnsafeMutablePointer<UnsafeMutablePointer<suture_feature_statistics>?>?
) -> suture_status {
    boundary {
        let out = try required(out, "out")
        let made = try FeatureStatistics(dSAE: Int(d_sae), top: Int(top))
        out.pointee = makeHandle(FeatureStatisticsBox(made), as: suture_feature_statistics.self)
    }
}

/// Adds tokens; they are numbered on from those seen before, the first is 0. On any error the
/// statistics are as they were before the call.
///
/// Errors: SUTURE_ERROR_INVALID_ARGUMENT for codes of another d_sae; SUTURE_ERROR_CANCELLED;
/// SUTURE_ERROR_OUT_OF_MEMORY.
@c
public func suture_feature_statistics_update(
    _ statistics: UnsafeMutablePointer<suture_feature_statistics>?, _ codes: UnsafePointer<suture_codes>?,
    _ progress: UnsafePointer<suture_progress>?
) -> suture_status {
    boundary {
        let box = try SutureABI.statistics(statistics.map { UnsafePointer($0) })
        let codes = try SutureABI.codes(codes)
        try box.change { try $0.update(codes, progress: SutureABI.progress(progress)) }
    }
}

/// For each feature the share of the tokens it is active on, its mean activation over those (NaN where
/// there are none) and its largest (0 there): (d_sae) each; and the number of tokens. Each out-pointer
/// may be NULL.
///
/// Errors: SUTURE_ERROR_INVALID_ARGUMENT if frequency is asked for before the first token.
@c
public func suture_feature_statistics_read(
    _ statistics: UnsafePointer<suture_feature_statistics>?, _ frequency: UnsafeMutablePointer<Double>?,
    _ mean: UnsafeMutablePointer<Double>?, _ maximum: UnsafeMutablePointer<Float>?,
    _ tokens: UnsafeMutablePointer<UInt64>?
) -> suture_status {
    boundary {
        let value = try SutureABI.statistics(statistics).statistics
        if let frequency { write(try value.frequencies(), to: frequency) }
        if let mean { write(value.means(), to: mean) }
        if let maximum { write(value.maxima(), to: maximum) }
        tokens?.pointee = UInt64(value.tokens)
    }
}

/// For each feature the numbers of the tokens on which it is most active, and its activations there:
/// (d_sae, top) each, row by row, strongest first, ties by the earlier token; -1 and 0 in places that
/// are not used. Each out-pointer may be NULL.
@c
public func suture_feature_statistics_examples(
    _ statistics: UnsafePointer<suture_feature_statistics>?, _ rows: UnsafeMutablePointer<Int64>?,
    _ values: UnsafeMutablePointer<Float>?
) -> suture_status {
    boundary { try SutureABI.statistics(statistics).statistics.readExamples(rows: rows, values: values) }
}

/// Releases feature statistics. Accepts NULL.
@c
public func suture_feature_statistics_destroy(_ statistics: UnsafeMutablePointer<suture_feature_statistics>?) {
    destroyHandle(statistics)
}

/// The tokens that features promote and suppress: for each row of W_dec (n, d) the `count` largest and
/// the `count` smallest logit weights, strongest first, ties by the lower token, and their tokens:
/// (n, count) each, row by row. Logit weights are made a few rows at a time. Each out-pointer may be
/// NULL.
///
/// Errors: SUTURE_ERROR_INVALID_ARGUMENT for other shapes, a number that is not finite, or count not
/// within 1 to the vocabulary; SUTURE_ERROR_NUMERICAL where a logit weight is beyond float32;
/// SUTURE_ERROR_CANCELLED; SUTURE_ERROR_OUT_OF_MEMORY.
@c
public func suture_logit_weights(
    _ W_dec: UnsafePointer<suture_matrix>?, _ unembedding: UnsafePointer<suture_matrix>?, _ count: Int64,
    _ progress: UnsafePointer<suture_progress>?, _ up_tokens: UnsafeMutablePointer<Int32>?,
    _ up_values: UnsafeMutablePointer<Float>?, _ down_tokens: UnsafeMutablePointer<Int32>?,
    _ down_values: UnsafeMutablePointer<Float>?
) -> suture_status {
    boundary {
        let (decoder, unembedding) = (try matrix(W_dec, "W_dec"), try matrix(unembedding, "unembedding"))
        let side = try LogitSide(decoder: decoder, unembedding: unembedding, names: ("W_dec", "unembedding"))
        let found = try side.extremes(count: Int(count), progress: SutureABI.progress(progress))
        let size = found.rows * found.count
        up_tokens?.update(from: found.upTokens, count: size)
        up_values?.update(from: found.upValues, count: size)
        down_tokens?.update(from: found.downTokens, count: size)
        down_values?.update(from: found.downValues, count: size)
    }
}

/// For each row of W_dec (n, d) the length of its part in the effective null space of an unembedding
/// (vocabulary, d), as a fraction of its whole length; NaN for a row of zeros. The null space is that of
/// the smallest `share` of the singular values, 0 < share <= 1, rounded to a whole number of them and at
/// least one (the paper takes 0.02). fraction has n elements, singular_values (ascending) d; either may
/// be NULL.
///
/// Errors: SUTURE_ERROR_INVALID_ARGUMENT for other shapes, a share out of range, a number that is not
/// finite, or an unembedding of zeros; SUTURE_ERROR_NUMERICAL; SUTURE_ERROR_CANCELLED;
/// SUTURE_ERROR_OUT_OF_MEMORY.
@c
public func suture_null_space_fraction(
    _ W_dec: UnsafePointer<suture_matrix>?, _ unembedding: UnsafePointer<suture_matrix>?, _ share: Double,
    _ progress: UnsafePointer<suture_progress>?, _ fraction: UnsafeMutablePointer<Double>?,
    _ singular_values: UnsafeMutablePointer<Double>?
) -> suture_status {
    boundary {
        let decoder = try matrix(W_dec, "W_dec")
        let unembedding = try matrix(unembedding, "unembedding", cols: (decoder.cols, "the columns of W_dec"))
        try requireFinite(decoder, "W_dec")
        let progress = SutureABI.progress(progress)
        let space = try NullSpace(of: unembedding, share: share, progress: progress)
        let fractions = try space.fractions(of: decoder, progress: progress)
        if let fraction { write(fractions, to: fraction) }
        if let singular_values { write(space.singularValues, to: singular_values) }
    }
}

/// A number of elements that a pointer goes with.
private func counted(_ count: Int64, _ name: String) throws -> Int {
    guard count >= 0, count <= Int64(Int.max / 8) else {
        throw SutureError.invalidArgument("\(name) is \(count), expected 0 to \(Int.max / 8)")
    }
    return Int(count)
}
