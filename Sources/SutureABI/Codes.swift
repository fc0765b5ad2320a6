// SPDX-License-Identifier: Apache-2.0
// Section: Sparse codes
import CSutureTypes
import Suture

final class CodesBox: HandleBox {
    let codes: SparseCodes
    init(_ codes: SparseCodes) { self.codes = codes }
}

func codes(_ handle: UnsafePointer<suture_codes>?, _ name: String = "codes") throws -> SparseCodes {
    try object(handle, name, as: CodesBox.self).codes
}

/// Encodes tokens x (N, d_in) of any element type. The result holds what is active only; memory
/// for N x d_sae numbers is never taken. With a per-token normalisation the codes carry each
/// token's scale as well, which suture_sae_decode() needs. *out is the caller's, to be released
/// with suture_codes_destroy().
///
/// The first call on a TopK SAE with 256 tokens or more makes a transposed copy of W_enc (and one in
/// bfloat16 where the CPU is faster with it), which the SAE keeps. From then on a token's codes have
/// the same bits in any call and on any CPU; calls with fewer tokens before that add up in another
/// order, so that activations may differ in their last bits.
///
/// Errors: SUTURE_ERROR_INVALID_ARGUMENT for another shape, no rows, or a value that is not finite
/// (the message names the first one); SUTURE_ERROR_NUMERICAL where a pre-activation is beyond
/// float32; SUTURE_ERROR_CANCELLED; SUTURE_ERROR_OUT_OF_MEMORY.
@c
public func suture_sae_encode(
    _ sae: UnsafePointer<suture_sae>?, _ x: UnsafePointer<suture_matrix>?, _ progress: UnsafePointer<suture_progress>?,
    _ out: UnsafeMutablePointer<UnsafeMutablePointer<suture_codes>?>?
) -> suture_status {
    boundary {
        let sae = try SutureABI.sae(sae).sae
        let x = try matrix(x, "x", cols: (sae.dIn, "d_in"))
        let out = try required(out, "out")
        out.pointee = makeHandle(
            CodesBox(try sae.encode(x, progress: SutureABI.progress(progress))), as: suture_codes.self)
    }
}

/// Codes made elsewhere: indices and values (rows, width), row by row, which are copied. Slots may
/// be in any order and are sorted; a negative index marks an empty one. Values may have any sign,
/// since decoding is linear. *out is the caller's, to be released with suture_codes_destroy().
///
/// Errors: SUTURE_ERROR_INVALID_ARGUMENT for a size that is negative or beyond memory, an index that
/// is not below d_sae or stands twice in a row, a value that is not finite, NULL where there are
/// slots; SUTURE_ERROR_OUT_OF_MEMORY.
@c
public func suture_codes_create(
    _ d_sae: Int64, _ rows: Int64, _ width: Int64, _ indices: UnsafePointer<Int32>?, _ values: UnsafePointer<Float>?,
    _ out: UnsafeMutablePointer<UnsafeMutablePointer<suture_codes>?>?
) -> suture_status {
    boundary {
        guard d_sae >= 1, d_sae <= Int64(sizeLimit) else {
            throw SutureError.invalidArgument("d_sae is \(d_sae), expected 1 to \(sizeLimit)")
        }
        guard rows >= 1 else { throw SutureError.invalidArgument("rows is \(rows), expected at least 1") }
        guard width >= 0, width <= d_sae else {
            throw SutureError.invalidArgument("width is \(width), expected 0 to d_sae = \(d_sae)")
        }
        let (slots, overflow) = Int(rows).multipliedReportingOverflow(by: Int(width))
        guard !overflow, slots <= Int.max / 4 else {
            throw SutureError.invalidArgument("rows is \(rows) and width is \(width), expected what memory can hold")
        }
        let out = try required(out, "out")
        // Without slots there is nothing to point to.
        let codes = try SparseCodes(
            dSAE: Int(d_sae), rows: Int(rows), width: Int(width),
            indices: UnsafeBufferPointer(start: slots > 0 ? required(indices, "indices") : nil, count: slots),
            values: UnsafeBufferPointer(start: slots > 0 ? required(values, "values") : nil, count: slots))
        out.pointee = makeHandle(CodesBox(codes), as: suture_codes.self)
    }
}

/// The arrays of the codes, in their own memory: read only, valid while the codes live. Set
/// out->struct_size first.
@c
public func suture_codes_view_get(
    _ codes: UnsafePointer<suture_codes>?, _ out: UnsafeMutablePointer<suture_codes_view>?
) -> suture_status {
    boundary {
        let codes = try SutureABI.codes(codes)
        let out = try required(out, "out")
        var view = suture_codes_view()
        view.rows = Int64(codes.rows)
        view.width = Int64(codes.width)
        view.d_sae = Int64(codes.dSAE)
        view.indices = codes.indices
        view.values = codes.values
        view.counts = codes.counts
        try writeReport(view, to: out, "out")
    }
}

/// Decodes: writes f W_dec + b_dec, with the normalisation undone, to out (codes' rows, d_in),
/// float32. Only the decoder rows of active latents are touched.
///
/// Errors: SUTURE_ERROR_INVALID_ARGUMENT for codes of another d_sae or an out of another shape;
/// SUTURE_ERROR_UNSUPPORTED where the SAE normalises each token and the codes do not come from
/// suture_sae_encode() with such a SAE; SUTURE_ERROR_CANCELLED.
@c
public func suture_sae_decode(
    _ sae: UnsafePointer<suture_sae>?, _ codes: UnsafePointer<suture_codes>?,
    _ progress: UnsafePointer<suture_progress>?, _ out: UnsafePointer<suture_matrix>?
) -> suture_status {
    boundary {
        let sae = try SutureABI.sae(sae).sae
        let codes = try SutureABI.codes(codes)
        let target = try outputMatrix(out, "out", rows: (codes.rows, "the rows of codes"), cols: (sae.dIn, "d_in"))
        try sae.decode(codes, into: target.base, rowStride: target.rowStride, progress: SutureABI.progress(progress))
    }
}

/// Encodes and decodes x (N, d_in) to out (N, d_in), float32, block by block: the same bits as
/// suture_sae_encode() and suture_sae_decode(), without codes for all tokens.
///
/// Errors: as suture_sae_encode(); out may be partly written then.
@c
public func suture_sae_reconstruct(
    _ sae: UnsafePointer<suture_sae>?, _ x: UnsafePointer<suture_matrix>?, _ progress: UnsafePointer<suture_progress>?,
    _ out: UnsafePointer<suture_matrix>?
) -> suture_status {
    boundary {
        let sae = try SutureABI.sae(sae).sae
        let x = try matrix(x, "x", cols: (sae.dIn, "d_in"))
        let target = try outputMatrix(out, "out", rows: (x.rows, "the rows of x"), cols: (sae.dIn, "d_in"))
        try sae.reconstruct(x, into: target.base, rowStride: target.rowStride, progress: SutureABI.progress(progress))
    }
}

/// Releases codes. Accepts NULL. Views of them end with it.
@c
public func suture_codes_destroy(_ codes: UnsafeMutablePointer<suture_codes>?) { destroyHandle(codes) }
