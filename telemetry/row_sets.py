"""Sets of row ids that cost about a bit each. Pure."""

CHUNK_BITS = 16
LOW = (1 << CHUNK_BITS) - 1


class RowSet:
    """Ids that lie close together, as those of a sequence do."""

    def __init__(self) -> None:
        self._chunks: dict[int, bytearray] = {}

    def add(self, row_id: int) -> bool:
        """Whether it was not in before."""
        chunk = self._chunks.get(row_id >> CHUNK_BITS)
        if chunk is None:
            chunk = self._chunks[row_id >> CHUNK_BITS] = bytearray((LOW + 1) // 8)
        at, bit = (row_id & LOW) >> 3, 1 << (row_id & 7)
        if chunk[at] & bit:
            return False
        chunk[at] |= bit
        return True

    def __contains__(self, row_id: int) -> bool:
        chunk = self._chunks.get(row_id >> CHUNK_BITS)
        return chunk is not None and bool(chunk[(row_id & LOW) >> 3] & 1 << (row_id & 7))
