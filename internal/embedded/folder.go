package embedded

// LockFolder keeps other processes out of a folder until release is called or
// this process dies. The error of a second holder names the folder and the
// process that has it.
func LockFolder(dir string) (release func() error, err error) {
	l, err := lockFolder(dir)
	if err != nil {
		return nil, err
	}
	return l.release, nil
}
