// SPDX-License-Identifier: Apache-2.0
// Section: Best matches of two SAEs
// For each latent of one SAE the latent of another, of any width, whose activations correlate most with
// its own on paired rows: what can be expected of two SAEs at best, a scale for the fidelity of carried
// ones. The largest of many correlations flatters, so blocks of 64 rows choose and judge in turns.
import CSutureTypes
import Suture

final class MatchesBox: HandleBox {
    private let state: Changing<BestMatches>
    var matches: BestMatches { state.value }

    init(_ matches: BestMatches) { state = Changing(matches, name: "matches") }

    func change(_ body: (inout BestMatches) throws -> Void) throws { try state.change(body) }
}

private func matches(_ handle: UnsafePointer<suture_matches>?) throws -> MatchesBox {
    try object(handle, "matches", as: MatchesBox.self)
}

/// Begins to match the d_sae_a latents of one SAE with the d_sae_b latents of another. No table of all
/// pairs of latents is made: codes are kept, 8 bytes a slot of both sides, and suture_matches_find() takes
/// 16 bytes more for each time that a latent of A fires. With 32 slots on both sides, 1 kB a row, for any
/// number of latents. *out is the caller's, to be released with suture_matches_destroy().
///
/// Errors: SUTURE_ERROR_INVALID_ARGUMENT for a d_sae out of range.
@c
public func suture_matches_create(
    _ d_sae_a: Int64, _ d_sae_b: Int64, _ out: UnsafeMutablePointer<UnsafeMutablePointer<suture_matches>?>?
) -> suture_status {
    boundary {
        let out = try required(out, "out")
        let made = try BestMatches(dSAEA: Int(d_sae_a), dSAEB: Int(d_sae_b))
        out.pointee = makeHandle(MatchesBox(made), as: suture_matches.self)
    }
}

/// Adds rows: row t of codes_a and of codes_b belong to the same token. The codes are shared, not copied,
/// and may be destroyed. On any error nothing has changed.
///
/// Errors: SUTURE_ERROR_INVALID_ARGUMENT for codes of another d_sae or unequal numbers of rows.
@c
public func suture_matches_update(
    _ matches: UnsafeMutablePointer<suture_matches>?, _ codes_a: UnsafePointer<suture_codes>?,
    _ codes_b: UnsafePointer<suture_codes>?
) -> suture_status {
    boundary {
        let box = try SutureABI.matches(matches.map { UnsafePointer($0) })
        let (a, b) = (try codes(codes_a, "codes_a"), try codes(codes_b, "codes_b"))
        try box.change { try $0.update(a: a, b: b) }
    }
}

/// Chooses on one half of the rows and judges on the other. For each latent of A, (d_sae_a) each: match,
/// the latent of B that correlates most with it, -1 where none does above 0; correlation, Pearson's on the
/// rows that judge, NaN where there is no match or a side does not vary there; chosen, the same on the rows
/// that chose, which flatters; control, with the match's activations on other rows; active, on how many
/// rows it fires. For each latent of B, (d_sae_b): match_b, the best of A. Two latents that are each
/// other's match are mutual. Of latents that correlate equally the lowest is taken. Latents that fire
/// at least min_count times in A, on all rows (10 is usual), are judged in the summary, where one without a
/// match counts as 0. Each out-pointer may be NULL; set summary->struct_size first. The same rows give
/// the same bits for any number of threads, however they were cut into calls.
///
/// Errors: SUTURE_ERROR_INVALID_ARGUMENT if min_count is below 1 or there are fewer than 128 rows;
/// SUTURE_ERROR_CANCELLED; SUTURE_ERROR_OUT_OF_MEMORY.
@c
public func suture_matches_find(
    _ matches: UnsafePointer<suture_matches>?, _ min_count: Int64, _ progress: UnsafePointer<suture_progress>?,
    _ match: UnsafeMutablePointer<Int64>?, _ correlation: UnsafeMutablePointer<Double>?,
    _ chosen: UnsafeMutablePointer<Double>?, _ control: UnsafeMutablePointer<Double>?,
    _ active: UnsafeMutablePointer<UInt64>?, _ match_b: UnsafeMutablePointer<Int64>?,
    _ summary: UnsafeMutablePointer<suture_matches_summary>?
) -> suture_status {
    boundary {
        let box = try SutureABI.matches(matches)
        if let summary { try structSize(UnsafeRawPointer(summary), "summary", of: suture_matches_summary.self) }
        let found = try box.matches.find(minimum: Int(min_count), progress: SutureABI.progress(progress))
        if let match { write(found.matches, to: match) }
        if let correlation { write(found.correlations, to: correlation) }
        if let chosen { write(found.chosen, to: chosen) }
        if let control { write(found.controls, to: control) }
        if let active { write(found.activeTokens, to: active) }
        if let match_b { write(found.matchesB, to: match_b) }
        if let summary {
            var result = suture_matches_summary()
            result.rows = Int64(found.summary.rows)
            result.judged = Int64(found.summary.judged)
            result.rare = Int64(found.summary.rare)
            result.unmatched = Int64(found.summary.unmatched)
            result.mutual = Int64(found.summary.mutual)
            result.correlation = suture_quartiles(found.summary.correlation)
            result.chosen = suture_quartiles(found.summary.chosen)
            result.control = suture_quartiles(found.summary.control)
            result.share_active = found.summary.shareActive
            try writeReport(result, to: summary, "summary")
        }
    }
}

/// Releases matches and the codes they keep. NULL is fine.
@c
public func suture_matches_destroy(_ matches: UnsafeMutablePointer<suture_matches>?) { destroyHandle(matches) }
